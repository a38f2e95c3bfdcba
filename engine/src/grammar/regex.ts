/**
 * Regular expressions as rules: ECMAScript's syntax with the `u` flag's meaning, as far as a language without look-around and back-references goes.
 */
import { Problem } from '@signpost/contracts';
import { type CharRange, choice, complement, normalise, type Rule, repeat, sequence } from './rule.ts';

const DIGITS: readonly CharRange[] = [[0x30, 0x39]];
const WORD: readonly CharRange[] = [...DIGITS, [0x41, 0x5a], [0x5f, 0x5f], [0x61, 0x7a]];
const BLANK: readonly CharRange[] = [
  [0x09, 0x0d],
  [0x20, 0x20],
  [0xa0, 0xa0],
  [0x1680, 0x1680],
  [0x2000, 0x200a],
  [0x2028, 0x2029],
  [0x202f, 0x202f],
  [0x205f, 0x205f],
  [0x3000, 0x3000],
  [0xfeff, 0xfeff],
];
const LINE_ENDS: readonly CharRange[] = [
  [0x0a, 0x0a],
  [0x0d, 0x0d],
  [0x2028, 0x2029],
];
const CONTROL: Readonly<Record<string, number>> = { t: 0x09, n: 0x0a, v: 0x0b, f: 0x0c, r: 0x0d, '0': 0 };
const CLASSES: Readonly<Record<string, readonly CharRange[]>> = {
  d: DIGITS,
  D: complement(DIGITS),
  w: WORD,
  W: complement(WORD),
  s: BLANK,
  S: complement(BLANK),
};
const SYNTAX = '^$\\.*+?()[]{}|/-';
const MAX_DEPTH = 100;

export interface RegexOptions {
  /** How a character of the text is written: as it is, or escaped in a JSON string. */
  readonly chars: (ranges: readonly CharRange[]) => Rule;
  /** `whole`: the expression is all of the text. `search`: it may stand anywhere in it, but for its anchors (as in JSON Schema). */
  readonly match: 'whole' | 'search';
}

/** @throws Problem that quotes what isn't supported, and where. */
export function regexRule(pattern: string, options: RegexOptions): Rule {
  return new Parser(pattern, options).parse();
}

class Parser {
  readonly #pattern: string;
  readonly #input: readonly string[];
  readonly #options: RegexOptions;
  #at = 0;
  #depth = 0;

  constructor(pattern: string, options: RegexOptions) {
    this.#pattern = pattern;
    this.#input = [...pattern];
    this.#options = options;
  }

  parse(): Rule {
    const rule = this.#alternatives('outside');
    if (this.#at < this.#input.length) this.#fail('there is nothing that this closes');
    return rule;
  }

  #alternatives(where: 'outside' | 'group'): Rule {
    if (++this.#depth > MAX_DEPTH) this.#fail(`groups are nested deeper than ${MAX_DEPTH}`);
    const options = [this.#alternative(where)];
    while (this.#take('|')) options.push(this.#alternative(where));
    this.#depth--;
    return choice(...options);
  }

  #alternative(where: 'outside' | 'group'): Rule {
    const anything = repeat(this.#options.chars(complement([])), 0, Number.POSITIVE_INFINITY);
    const isOpen = where === 'outside' && this.#options.match === 'search';
    const items: Rule[] = [];
    let startsAtBeginning = false;
    if (where === 'outside') while (this.#take('^')) startsAtBeginning = true;
    if (isOpen && !startsAtBeginning) items.push(anything);
    let reachesEnd = false;
    while (this.#at < this.#input.length && this.#peek() !== '|' && this.#peek() !== ')') {
      if (where === 'outside' && this.#peek() === '$' && [undefined, '|', '$'].includes(this.#input[this.#at + 1])) {
        this.#at++;
        reachesEnd = true;
      } else items.push(this.#quantified());
    }
    if (isOpen && !reachesEnd) items.push(anything);
    return sequence(...items);
  }

  #quantified(): Rule {
    const item = this.#atom();
    const bounds = this.#bounds();
    if (bounds === undefined) return item;
    // Lazy or not, the same texts match.
    this.#take('?');
    if ('*+{'.includes(this.#peek() || ' ')) this.#fail('there is nothing to repeat');
    return repeat(item, bounds.min, bounds.max);
  }

  #bounds(): { min: number; max: number } | undefined {
    if (this.#take('*')) return { min: 0, max: Number.POSITIVE_INFINITY };
    if (this.#take('+')) return { min: 1, max: Number.POSITIVE_INFINITY };
    if (this.#take('?')) return { min: 0, max: 1 };
    if (this.#peek() !== '{') return undefined;
    const rest = this.#input.slice(this.#at, this.#at + 32).join('');
    const [text, least = '', comma, most = ''] = /^\{(\d{1,9})(,?)(\d{0,9})\}/.exec(rest) ?? [];
    if (text === undefined) return this.#fail('this is no repetition; write \\{ for the character');
    const min = Number(least);
    const max = comma === '' ? min : most === '' ? Number.POSITIVE_INFINITY : Number(most);
    if (max < min) this.#fail('the bounds are out of order');
    this.#at += text.length;
    return { min, max };
  }

  #atom(): Rule {
    const char = this.#next();
    switch (char) {
      case '(':
        return this.#group();
      case '[':
        return this.#options.chars(this.#set());
      case '.':
        return this.#options.chars(complement(LINE_ENDS));
      case '\\':
        return this.#options.chars(this.#escape('outside'));
      case '^':
      case '$':
        this.#at--;
        return this.#fail('an anchor is only supported at the very beginning or end');
      case '*':
      case '+':
      case '?':
      case '{':
      case '}':
      case ']':
        this.#at--;
        return this.#fail(`"${char}" has no meaning here; write \\${char} for the character`);
      default:
        return this.#options.chars([codePoint(char)]);
    }
  }

  #group(): Rule {
    if (this.#take('?')) {
      const head = /^(:|<[A-Za-z_$][\w$]*>)/.exec(this.#input.slice(this.#at, this.#at + 100).join(''))?.[0];
      if (head === undefined) return this.#fail('look-around and flags are not supported');
      this.#at += head.length;
    }
    const inner = this.#alternatives('group');
    if (!this.#take(')')) this.#fail('a group is not closed');
    return inner;
  }

  #set(): readonly CharRange[] {
    const isNegated = this.#take('^');
    const ranges: CharRange[] = [];
    while (!this.#take(']')) {
      const low = this.#setItem();
      if (this.#peek() !== '-' || this.#input[this.#at + 1] === ']') {
        ranges.push(...low);
        continue;
      }
      this.#at++;
      const high = this.#setItem();
      const [[from = 0, fromEnd] = [], [to = 0, toEnd] = []] = [low[0], high[0]];
      if (low.length > 1 || high.length > 1 || from !== fromEnd || to !== toEnd)
        this.#fail('a class is no end of a range');
      if (from > to) this.#fail('the range is out of order');
      ranges.push([from, to]);
    }
    const set = isNegated ? complement(ranges) : normalise(ranges);
    if (set.length === 0) this.#fail('no character is in this set');
    return set;
  }

  #setItem(): readonly CharRange[] {
    const char = this.#next();
    return char === '\\' ? this.#escape('set') : [codePoint(char)];
  }

  #escape(where: 'outside' | 'set'): readonly CharRange[] {
    const char = this.#next();
    const set = CLASSES[char];
    if (set !== undefined) return set;
    if (where === 'set' && char === 'b') return [[0x08, 0x08]];
    const control = CONTROL[char];
    if (control !== undefined && !(char === '0' && /\d/.test(this.#peek()))) return [[control, control]];
    if (SYNTAX.includes(char)) return [codePoint(char)];
    const rest = this.#input.slice(this.#at, this.#at + 10).join('');
    const hex = { x: /^([0-9a-f]{2})/i, u: /^(?:([0-9a-f]{4})|\{([0-9a-f]{1,6})\})/i }[char]?.exec(rest);
    const code = Number.parseInt(hex?.[1] ?? hex?.[2] ?? '', 16);
    if (hex == null || code > 0x10ffff) return this.#fail(`the escape \\${char} is not supported`);
    this.#at += hex[0].length;
    return [[code, code]];
  }

  #peek(): string {
    return this.#input[this.#at] ?? '';
  }

  #take(char: string): boolean {
    if (this.#peek() !== char) return false;
    this.#at++;
    return true;
  }

  #next(): string {
    const char = this.#input[this.#at];
    if (char === undefined) return this.#fail('it ends too early');
    this.#at++;
    return char;
  }

  #fail(why: string): never {
    throw new Problem(
      `the pattern ${JSON.stringify(this.#pattern.slice(0, 200))} at character ${this.#at + 1}: ${why}`,
    );
  }
}

function codePoint(char: string): CharRange {
  const code = char.codePointAt(0) ?? 0;
  return [code, code];
}
