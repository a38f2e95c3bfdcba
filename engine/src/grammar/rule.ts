/**
 * Grammars over bytes, as a graph of rules: what a text may be, written down before anything is matched.
 *
 * Rules may be shared and recursive (through `Reference`); repetitions are counted, not unrolled, so a bound of thousands costs nothing here.
 */

export type Rule =
  /** One byte in a range, both ends included. */
  | { readonly kind: 'byte'; readonly low: number; readonly high: number }
  | { readonly kind: 'sequence'; readonly items: readonly Rule[] }
  | { readonly kind: 'choice'; readonly options: readonly Rule[] }
  | { readonly kind: 'repeat'; readonly item: Rule; readonly min: number; readonly max: number }
  | Reference;

/** Stands for a rule that is still being built. */
export interface Reference {
  readonly kind: 'reference';
  target: Rule | undefined;
}

/** Code points, both ends included. */
export type CharRange = readonly [low: number, high: number];

const MAX_CODE_POINT = 0x10ffff;
const EMPTY: Rule = { kind: 'sequence', items: [] };

export function sequence(...items: readonly Rule[]): Rule {
  const [only] = items;
  return items.length === 1 && only !== undefined ? only : { kind: 'sequence', items };
}

export function choice(...options: readonly Rule[]): Rule {
  const [only] = options;
  return options.length === 1 && only !== undefined ? only : { kind: 'choice', options };
}

export function repeat(item: Rule, min: number, max: number): Rule {
  return { kind: 'repeat', item, min, max };
}

export function optional(item: Rule): Rule {
  return choice(EMPTY, item);
}

/** Items with a separator between them. */
export function list(item: Rule, separator: Rule, min: number, max: number): Rule {
  if (max === 0) return EMPTY;
  const some = sequence(item, repeat(sequence(separator, item), Math.max(0, min - 1), max - 1));
  return min === 0 ? optional(some) : some;
}

export function literal(text: string): Rule {
  const bytes = new TextEncoder().encode(text);
  return { kind: 'sequence', items: [...bytes].map((byte) => ({ kind: 'byte', low: byte, high: byte })) };
}

/** One character of the ranges, as its UTF-8 bytes. Surrogates, which no text has, are left out. */
export function chars(ranges: readonly CharRange[]): Rule {
  return choice(...ranges.flatMap(([low, high]) => utf8(low, high)));
}

/** Ranges sorted and without overlap. */
export function normalise(ranges: readonly CharRange[]): CharRange[] {
  const merged: [number, number][] = [];
  for (const [low, high] of [...ranges].sort((a, b) => a[0] - b[0])) {
    const last = merged.at(-1);
    if (last !== undefined && low <= last[1] + 1) last[1] = Math.max(last[1], high);
    else merged.push([low, high]);
  }
  return merged;
}

/** Every other character. */
export function complement(ranges: readonly CharRange[]): CharRange[] {
  const others: CharRange[] = [];
  let from = 0;
  for (const [low, high] of normalise(ranges)) {
    if (low > from) others.push([from, low - 1]);
    from = high + 1;
  }
  if (from <= MAX_CODE_POINT) others.push([from, MAX_CODE_POINT]);
  return others;
}

/** Whether the text can come to an end wherever it has come to: no rule that may be entered recurs for ever. */
export function alwaysEnds(root: Rule): boolean {
  const rules = new Set<Rule>();
  const collect = [root];
  for (let rule = collect.pop(); rule !== undefined; rule = collect.pop()) {
    if (rules.has(rule)) continue;
    rules.add(rule);
    collect.push(...partsOf(rule));
  }
  const ending = new Set<Rule>();
  for (let before = -1; before < ending.size; ) {
    before = ending.size;
    for (const rule of rules) if (!ending.has(rule) && canEnd(rule, ending)) ending.add(rule);
  }
  // A choice of nothing is never entered.
  return [...rules].every((rule) => ending.has(rule) || (rule.kind === 'choice' && rule.options.length === 0));
}

function partsOf(rule: Rule): readonly Rule[] {
  switch (rule.kind) {
    case 'byte':
      return [];
    case 'sequence':
      return rule.items;
    case 'choice':
      return rule.options;
    case 'repeat':
      return [rule.item];
    case 'reference':
      return rule.target === undefined ? [] : [rule.target];
    default:
      return rule satisfies never;
  }
}

function canEnd(rule: Rule, ending: ReadonlySet<Rule>): boolean {
  if (rule.kind === 'repeat' && rule.min === 0) return true;
  const parts = partsOf(rule);
  return rule.kind === 'choice' ? parts.some((part) => ending.has(part)) : parts.every((part) => ending.has(part));
}

/** Sequences of byte ranges that are the UTF-8 encodings of a range (the splitting of Russ Cox's RE2, as in its utf8 ranges). */
function utf8(low: number, high: number): Rule[] {
  if (low > high) return [];
  if (low < 0xd800 && high >= 0xd800) return [...utf8(low, 0xd7ff), ...utf8(0xd800, high)];
  if (low >= 0xd800 && low <= 0xdfff) return utf8(0xe000, high);
  for (const end of [0x7f, 0x7ff, 0xffff]) {
    if (low <= end && high > end) return [...utf8(low, end), ...utf8(end + 1, high)];
  }
  for (const bits of high > 0x7f ? [6, 12, 18] : []) {
    const tail = (1 << bits) - 1;
    if ((low | tail) === (high | tail)) continue;
    if ((low & tail) !== 0) return [...utf8(low, low | tail), ...utf8((low | tail) + 1, high)];
    if ((high & tail) !== tail) return [...utf8(low, (high & ~tail) - 1), ...utf8(high & ~tail, high)];
  }
  const encoder = new TextEncoder();
  const first = encoder.encode(String.fromCodePoint(low));
  const last = encoder.encode(String.fromCodePoint(high));
  return [sequence(...[...first].map((byte, i): Rule => ({ kind: 'byte', low: byte, high: last[i] ?? byte })))];
}
