/**
 * What the evaluator of rules is compared with: a naive one, and the conditions and facts on which both are tried.
 */
import fc from 'fast-check';
import type { RoutingFacts, Truth } from './evaluate.ts';
import type { Condition } from './rules.ts';

/** A condition as it is written in YAML. */
export type Written = Record<string, unknown>;

interface Asked extends RoutingFacts {
  /** Whose condition it is: each deals its shares for itself. */
  readonly rule: string;
}

/**
 * The oracle: an unknown label is no third truth value here but every value it could take. A condition is true (false) when it is so
 * whatever the classifier would have said about that leaf, each leaf for itself, and unknown otherwise.
 *
 * @param rule whose condition it is.
 */
export function oracle(when: Written, facts: RoutingFacts, rule: string): Truth {
  const outcomes = new Set(possible(when, { ...facts, rule }));
  return outcomes.size > 1 ? 'unknown' : outcomes.has(true);
}

function possible(when: Written, about: Asked): boolean[] {
  let outcomes: boolean[] = [true];
  for (const [field, wanted] of Object.entries(when)) {
    const here = possibleField(field, wanted, about);
    outcomes = combine(outcomes, here, (a, b) => a && b);
  }
  return outcomes;
}

function possibleField(field: string, wanted: unknown, about: Asked): boolean[] {
  const list = (Array.isArray(wanted) ? wanted : [wanted]) as unknown[];
  const one = (value: unknown) => [list.includes(value)];
  const range = (value: number) => {
    const { min, max } = wanted as { min?: number; max?: number };
    return [!(min !== undefined && value < min) && !(max !== undefined && value > max)];
  };
  switch (field) {
    case 'all':
      return (wanted as Written[]).map((w) => possible(w, about)).reduce((a, b) => combine(a, b, (x, y) => x && y));
    case 'any':
      return (wanted as Written[]).map((w) => possible(w, about)).reduce((a, b) => combine(a, b, (x, y) => x || y));
    case 'not':
      return possible(wanted as Written, about).map((x) => !x);
    case 'header':
      return [
        Object.entries(wanted as Record<string, unknown>).every(([name, values]) => {
          const value = about.headers.get(name);
          return value !== null && (values === true || [values].flat().includes(value));
        }),
      ];
    case 'prompt':
      return [new RegExp(wanted as string).test(about.prompt)];
    case 'promptChars':
      return range(about.prompt.length);
    case 'body':
      return [
        Object.entries(wanted as Record<string, unknown>).every(([path, test]) => {
          const value = fieldAt(path, about);
          if (test === true) return value != null;
          if (typeof test === 'object' && !Array.isArray(test)) {
            const { min = -Infinity, max = Infinity } = test as { min?: number; max?: number };
            return typeof value === 'number' && value >= min && value <= max;
          }
          return ([test].flat() as unknown[]).includes(value);
        }),
      ];
    case 'time':
      return [isOpen(wanted as WrittenTime, about.now)];
    case 'percent': {
      const { of, by = 'tenant' } =
        typeof wanted === 'number' ? { of: wanted } : (wanted as { of: number; by?: string });
      const key = keyBy(by, about);
      return [key !== undefined && percentile(`${about.rule}\n${key}`) < of];
    }
    case 'label':
      return about.classification === undefined ? [true, false] : one(about.classification.label);
    case 'confidence':
      return about.classification === undefined ? [true, false] : range(about.classification.confidence);
    default:
      return one(about[field as 'model' | 'tenant' | 'path' | 'continent' | 'country' | 'colo']);
  }
}

function fieldAt(path: string, { body }: Asked): unknown {
  let value: unknown = body;
  for (const key of path.split('.')) value = (value as Record<string, unknown> | undefined)?.[key];
  return value;
}

interface WrittenTime {
  readonly days?: string | readonly string[];
  readonly from?: string;
  readonly to?: string;
  readonly zone?: string;
}

const DAYS = ['sun', 'mon', 'tue', 'wed', 'thu', 'fri', 'sat'];
const DAY_MINUTES = 24 * 60;

/** Every day's window, from the minute of the week it begins at for as long as it is. */
function isOpen({ days = DAYS, from = '00:00', to = '24:00', zone = 'UTC' }: WrittenTime, now: number): boolean {
  const minuteOf = (time: string) => 60 * Number(time.slice(0, 2)) + Number(time.slice(3));
  const [start, end] = [minuteOf(from), minuteOf(to)];
  const length = end > start ? end - start : end - start + DAY_MINUTES;
  // A clock of that zone, as if it were one of UTC.
  const local = new Date(now + 60_000 * minutesAhead(zone, now));
  const minute = local.getUTCDay() * DAY_MINUTES + local.getUTCHours() * 60 + local.getUTCMinutes();
  return [days].flat().some((day) => {
    const since = minute - DAYS.indexOf(day) * DAY_MINUTES - start;
    return (since + 14 * DAY_MINUTES) % (7 * DAY_MINUTES) < length;
  });
}

const offsetFormats = new Map<string, Intl.DateTimeFormat>();

/** Of UTC. */
function minutesAhead(zone: string, now: number): number {
  const format =
    offsetFormats.get(zone) ?? new Intl.DateTimeFormat('en', { timeZone: zone, timeZoneName: 'longOffset' });
  offsetFormats.set(zone, format);
  const name = format.formatToParts(now).find(({ type }) => type === 'timeZoneName')?.value ?? '';
  const groups = /^GMT(?:(?<sign>[+-])(?<hours>\d\d):(?<minutes>\d\d))?$/.exec(name)?.groups;
  if (groups === undefined) throw new Error(`${zone} is ${name}`);
  const { sign, hours = 0, minutes = 0 } = groups;
  return (sign === '-' ? -1 : 1) * (60 * Number(hours) + Number(minutes));
}

function keyBy(by: string, about: Asked): string | undefined {
  if (by === 'tenant') return about.tenant ?? '';
  if (by.startsWith('header ')) return about.headers.get(by.slice(7)) ?? undefined;
  const value = fieldAt(by.slice(5), about);
  return ['string', 'number'].includes(typeof value) ? `${value}` : undefined;
}

/** FNV-1a (32 bits, over UTF-16 units) and MurmurHash3's finaliser, as published; of 100. */
function percentile(text: string): number {
  const times = (a: bigint, b: bigint) => BigInt.asUintN(32, a * b);
  let h = 0x811c9dc5n;
  for (let i = 0; i < text.length; i++) h = times(h ^ BigInt(text.charCodeAt(i)), 0x01000193n);
  h = times(h ^ (h >> 16n), 0x85ebca6bn);
  h = times(h ^ (h >> 13n), 0xc2b2ae35n);
  return (100 * Number(h ^ (h >> 16n))) / 2 ** 32;
}

function combine(a: boolean[], b: boolean[], by: (x: boolean, y: boolean) => boolean): boolean[] {
  return [...new Set(a.flatMap((x) => b.map((y) => by(x, y))))];
}

const oneOrMore = (...values: string[]) =>
  fc.oneof(fc.constantFrom(...values), fc.uniqueArray(fc.constantFrom(...values), { minLength: 1 }));
const rangeArbitrary = (unit: number) =>
  fc
    .tuple(fc.integer({ min: 0, max: 10 }), fc.integer({ min: 0, max: 10 }))
    .chain(([a, b]) =>
      fc.constantFrom<Written>(
        { min: a * unit },
        { max: b * unit },
        { min: Math.min(a, b) * unit, max: Math.max(a, b) * unit },
      ),
    );

/** Ahead of UTC and behind, not by whole hours, and as far as it goes; two change their clocks. */
const ZONES = ['Europe/Berlin', 'America/New_York', 'Asia/Kathmandu', 'Pacific/Kiritimati'];
const MONTH_MS = 30 * 86_400_000;
const QUARTER_MS = 15 * 60_000;
/** When those do, in milliseconds since the epoch. */
const CHANGES = ['2026-03-08T07:00Z', '2026-03-29T01:00Z', '2026-10-25T01:00Z', '2026-11-01T06:00Z'].map(Date.parse);
const clock = fc
  .integer({ min: 0, max: 96 })
  .map((quarter) => [Math.floor(quarter / 4), 15 * (quarter % 4)].map((part) => `${part}`.padStart(2, '0')).join(':'));

/** What each field of a condition may say. */
export const FIELDS: Readonly<Record<string, fc.Arbitrary<unknown>>> = {
  model: oneOrMore('auto', 'base', 'math'),
  tenant: oneOrMore('acme', 'umbrella'),
  path: oneOrMore('/v1/chat/completions', '/v1/completions'),
  header: fc.constantFrom<Written>(
    { 'x-team': true },
    { 'x-team': ['blue', 'red'] },
    { 'x-other': 'red' },
    { 'x-team': 'green', 'x-other': true },
  ),
  continent: oneOrMore('EU', 'NA'),
  country: oneOrMore('DE', 'US'),
  colo: oneOrMore('FRA', 'IAD'),
  prompt: fc.constantFrom('\\d', '^What', 'function', 'a+b'),
  promptChars: rangeArbitrary(3),
  label: oneOrMore('math', 'code', 'chat'),
  confidence: rangeArbitrary(0.1),
  body: fc.constantFrom<Written>(
    { max_tokens: { min: 100 } },
    { max_tokens: [50, 7], stream: true },
    { 'metadata.team': 'blue' },
    { tools: true, 'tools.0.type': 'function' },
    { 'metadata.team.name': true },
  ),
  time: fc
    .record(
      { days: oneOrMore(...DAYS), from: clock, to: clock, zone: fc.constantFrom('UTC', ...ZONES) },
      { requiredKeys: [] },
    )
    .filter(({ days, from, to }) => (days ?? from ?? to) !== undefined && (from ?? '00:00') !== (to ?? '24:00')),
  percent: fc.oneof(
    fc.integer({ min: 1, max: 100 }),
    fc.record({
      of: fc.integer({ min: 1, max: 100 }),
      by: fc.constantFrom('tenant', 'header x-team', 'body metadata.team', 'body max_tokens', 'body stream'),
    }),
  ),
} satisfies Record<Exclude<keyof Condition, 'all' | 'any' | 'not'>, fc.Arbitrary<unknown>>;

/** One to three fields, those of the classifier as likely as all others together. */
const leaf: fc.Arbitrary<Written> = fc
  .uniqueArray(fc.oneof(fc.constantFrom('label', 'confidence'), fc.constantFrom(...Object.keys(FIELDS))), {
    minLength: 1,
    maxLength: 3,
  })
  .chain((names) => fc.tuple(...names.map((name) => (FIELDS[name] ?? fc.constant(null)).map((value) => [name, value]))))
  .map((entries) => Object.fromEntries(entries) as Written);

export const { condition } = fc.letrec<{ condition: Written }>((tie) => ({
  condition: fc.oneof(
    { maxDepth: 3, withCrossShrink: true },
    leaf,
    fc.record({ not: tie('condition') }),
    fc.record({ all: fc.array(tie('condition'), { minLength: 1, maxLength: 3 }) }),
    fc.record({ any: fc.array(tie('condition'), { minLength: 1, maxLength: 3 }) }),
    fc.tuple(leaf, tie('condition')).map(([fields, not]): Written => ({ ...fields, not })),
  ),
}));

export const factsArbitrary: fc.Arbitrary<RoutingFacts> = fc.record({
  model: fc.constantFrom('auto', 'base', 'math', 'other'),
  tenant: fc.constantFrom('acme', 'umbrella', undefined),
  path: fc.constantFrom('/v1/chat/completions', '/v1/completions'),
  headers: fc
    .constantFrom<Record<string, string>>({}, { 'x-team': 'blue' }, { 'x-team': 'green' }, { 'x-other': 'red' })
    .map((init) => new Headers(init)),
  continent: fc.constantFrom('EU', 'NA', undefined),
  country: fc.constantFrom('DE', 'US', undefined),
  colo: fc.constantFrom('FRA', 'IAD', undefined),
  body: fc.constantFrom<Record<string, unknown>>(
    {},
    { max_tokens: 50, stream: true, metadata: { team: 'blue' } },
    { max_tokens: 200, tools: [{ type: 'function' }], metadata: null },
  ),
  now: fc
    .tuple(
      fc.constantFrom(...CHANGES),
      fc.oneof(fc.integer({ min: -12, max: 12 }), fc.nat(MONTH_MS / QUARTER_MS)),
      // Windows end on quarters of an hour: just then, just before, at any time.
      fc.oneof(fc.constantFrom(0, -1), fc.nat(QUARTER_MS)),
    )
    .map(([change, quarters, rest]) => change + quarters * QUARTER_MS + rest),
  prompt: fc.constantFrom('', 'What is 3 + 4?', 'write a function', 'aab', 'What a day'),
  classification: fc.constantFrom(
    undefined,
    { label: 'math', confidence: 0.8 },
    { label: 'code', confidence: 0.4 },
    { label: 'poetry', confidence: 1 },
  ),
});
