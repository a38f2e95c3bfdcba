/**
 * The facts of a request that its record keeps, so that other rules can be tried on it: never a text that the rules in force don't name.
 */
import { type LooksAt, looksAt, type RoutingRules, valueAt } from '@signpost/contracts';

type Body = Readonly<Record<string, unknown>>;
type FactValue = string | number | boolean | Readonly<Record<string, never>> | null;

/** Names, not texts. */
const NAMED = new Set(['model', 'service_tier', 'tool_choice', 'reasoning_effort', 'verbosity']);
/** What the request is about: no string of it is recorded, even where rules name it. */
const TEXTS = new Set(['messages', 'prompt', 'suffix']);
/** Whatever rules do with them. */
const SECRETS = new Set(['authorization', 'cookie', 'proxy-authorization']);
export const MAX_FIELDS = 64;
/** What is longer is recorded up to there. */
export const MAX_VALUE_CHARS = 256;
const SOMETHING: Readonly<Record<string, never>> = {};

const seen = new WeakMap<RoutingRules, LooksAt>();

/** Once a rule set. */
function lookedAt(rules: RoutingRules): LooksAt {
  const known = seen.get(rules) ?? looksAt(rules);
  seen.set(rules, known);
  return known;
}

export function headerFacts(
  rules: RoutingRules,
  headers: { get(name: string): string | null },
): Record<string, string | null> | undefined {
  const { headers: names } = lookedAt(rules);
  if (names.size === 0) return undefined;
  const facts: Record<string, string | null> = {};
  for (const name of names) if (!SECRETS.has(name)) facts[name] = cut(headers.get(name));
  return facts;
}

export function bodyFacts(rules: RoutingRules, body: Body): Record<string, FactValue> {
  const facts: Record<string, FactValue> = {};
  let fields = 0;
  for (const [key, value] of Object.entries(body)) {
    if (fields >= MAX_FIELDS) break;
    if (!isRecordedField(key) || (typeof value === 'string' && !NAMED.has(key))) continue;
    facts[key] = factOf(value);
    fields++;
  }
  for (const path of lookedAt(rules).body) {
    const value = valueAt(body, path);
    const isText = typeof value === 'string' && TEXTS.has(path.split('.', 1)[0] ?? '');
    if (!isText) facts[path] = factOf(value);
  }
  return facts;
}

/** Whether a field of the body is recorded whatever rules look at, unless it is a text. */
export function isRecordedField(name: string): boolean {
  // A dot in a name would be taken for a path.
  return !TEXTS.has(name) && name.length <= MAX_VALUE_CHARS && !name.includes('.') && name !== '__proto__';
}

function factOf(value: unknown): FactValue {
  if (typeof value === 'string') return cut(value);
  if (typeof value === 'number' || typeof value === 'boolean') return value;
  return value === undefined || value === null ? null : SOMETHING;
}

function cut<T extends string | null>(text: T): T | string {
  return text === null || text.length <= MAX_VALUE_CHARS ? text : text.slice(0, MAX_VALUE_CHARS);
}
