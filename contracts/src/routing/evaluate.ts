/**
 * The one evaluator of routing rules: used where requests are served, where a decision is explained, and on the command line.
 *
 * Conditions are three-valued (Kleene): while the classifier is cold or abstains, what asks for a label is neither true nor false, and a
 * rule fires only when its condition is true. So `not: {label: math}` doesn't fire on a prompt nobody has classified.
 */
import { valueAt } from './body-value.ts';
import type { Action, BodyTest, Condition, RoutingRules, Rule } from './rules.ts';
import { keySource, pointOf } from './share.ts';
import { isWithin } from './time-window.ts';

/** What rules may look at. */
export interface RoutingFacts {
  readonly model: string;
  readonly tenant: string | undefined;
  readonly path: string;
  readonly headers: { get(name: string): string | null };
  readonly continent: string | undefined;
  readonly country: string | undefined;
  readonly colo: string | undefined;
  readonly prompt: string;
  /** The request's body as it was sent. */
  readonly body: Readonly<Record<string, unknown>>;
  /** Milliseconds since the epoch. */
  readonly now: number;
  /** Undefined while the classifier is cold, and when it abstains. */
  readonly classification: { readonly label: string; readonly confidence: number } | undefined;
}

/** Facts of a request that was recorded, as far as they were: what is lacking stands for anything. */
export interface RecordedFacts extends RoutingFacts {
  readonly lacks: {
    readonly prompt: boolean;
    readonly header: (name: string) => boolean;
    /** By dotted path; `test` is what is to be told of it. */
    readonly body: (path: string, test: BodyTest) => boolean;
  };
}

export type Truth = boolean | 'unknown';

/** What a condition may come to: a set of truths, in bits. One of them where all facts are there. */
type Possible = number;
const FALSE = 1;
const UNKNOWN = 2;
const TRUE = 4;
const EITHER = FALSE | TRUE;

export interface Decision {
  readonly rule: string;
  readonly action: Action;
  /** What the action comes to for this request: a model, or `requested` or `label` for what they stand for; undefined where it refuses or mixes. */
  readonly model: string | undefined;
  /** Rules looked at before, with what their conditions came to: why the earlier ones didn't fire. */
  readonly passed: readonly { readonly rule: string; readonly result: false | 'unknown' }[];
}

/** The first rule that holds. A valid rule set always ends in one that does. */
export function decide(rules: RoutingRules, facts: RoutingFacts): Decision {
  const passed: { rule: string; result: false | 'unknown' }[] = [];
  for (const rule of rules.rules) {
    const result = ruleHolds(rule, facts);
    if (result === true) return { rule: rule.name, action: rule.then, model: modelOf(rule, facts), passed };
    passed.push({ rule: rule.name, result });
  }
  throw new Error('a validated rule set ends in a rule without a condition');
}

/** A rule that may have decided a request. */
export interface PossibleDecision {
  readonly rule: string;
  readonly action: Action;
  /** As in `Decision`; `unknown` where it hangs on what wasn't recorded. */
  readonly model: string | undefined | 'unknown';
}

/**
 * The rules of which the first that holds may be, in order: one where what was recorded is enough to tell.
 *
 * @param known whether a rule holds, where that is known otherwise.
 */
export function possibleDecisions(
  rules: RoutingRules,
  facts: RecordedFacts,
  known: (rule: Rule) => boolean | undefined,
): PossibleDecision[] {
  const found: PossibleDecision[] = [];
  for (const rule of rules.rules) {
    const holding = known(rule);
    const possible = holding === undefined ? possibly(rule, facts) : holding ? TRUE : FALSE;
    if ((possible & TRUE) === 0) continue;
    const isDealt = !('split' in rule.then) || !isKeyLacking(rule.then.by, facts);
    found.push({ rule: rule.name, action: rule.then, model: isDealt ? modelOf(rule, facts) : 'unknown' });
    if (possible === TRUE) break;
  }
  return found;
}

function ruleHolds(rule: Rule, facts: RoutingFacts): Truth {
  return truthOf(possibly(rule, facts));
}

function possibly({ name, when }: Rule, facts: RoutingFacts | RecordedFacts): Possible {
  return when === undefined ? TRUE : possible(when, facts, name);
}

/** Whether a condition holds: every field given must. @param rule whose it is: each deals its shares for itself. */
export function holds(condition: Condition, facts: RoutingFacts, rule: string): Truth {
  return truthOf(possible(condition, facts, rule));
}

function truthOf(possible: Possible): Truth {
  return possible === UNKNOWN ? 'unknown' : possible === TRUE;
}

function possible(condition: Condition, facts: RoutingFacts | RecordedFacts, rule: string): Possible {
  const { classification } = facts;
  const lacks = 'lacks' in facts ? facts.lacks : undefined;
  let all = TRUE;
  const and = (part: Possible) => {
    all = both(all, part);
  };
  if (condition.model !== undefined) and(bit(condition.model.includes(facts.model)));
  if (condition.tenant !== undefined) and(bit(includes(condition.tenant, facts.tenant)));
  if (condition.path !== undefined) and(bit(condition.path.includes(facts.path)));
  for (const [name, wanted] of Object.entries(condition.header ?? {})) {
    const value = facts.headers.get(name);
    if (lacks?.header(name) === true) and(EITHER);
    else and(bit(wanted === true ? value !== null : includes(wanted, value ?? undefined)));
  }
  if (condition.continent !== undefined) and(bit(includes(condition.continent, facts.continent)));
  if (condition.country !== undefined) and(bit(includes(condition.country, facts.country)));
  if (condition.colo !== undefined) and(bit(includes(condition.colo, facts.colo)));
  if (condition.promptChars !== undefined) and(bit(within(condition.promptChars, facts.prompt.length)));
  if (condition.label !== undefined)
    and(classification === undefined ? UNKNOWN : bit(condition.label.includes(classification.label)));
  if (condition.confidence !== undefined)
    and(classification === undefined ? UNKNOWN : bit(within(condition.confidence, classification.confidence)));
  for (const [path, test] of Object.entries(condition.body ?? {}))
    and(lacks?.body(path, test) === true ? EITHER : bit(bodyHolds(test, valueAt(facts.body, path))));
  if (condition.time !== undefined) and(bit(isWithin(condition.time, facts.now)));
  if (condition.percent !== undefined) {
    const point = pointOf(condition.percent.by, facts, rule);
    // Without a key there is nothing to stay the same for.
    if (isKeyLacking(condition.percent.by, facts)) and(EITHER);
    else and(bit(point !== undefined && point * 100 < condition.percent.of));
  }
  // What takes longer comes last: nothing makes a condition true that one field has made false.
  if (all === FALSE) return FALSE;
  if (condition.all !== undefined) for (const inner of condition.all) and(possible(inner, facts, rule));
  if (condition.any !== undefined)
    and(condition.any.reduce((any: Possible, inner) => either(any, possible(inner, facts, rule)), FALSE));
  if (condition.not !== undefined) and(negate(possible(condition.not, facts, rule)));
  if (all === FALSE || condition.prompt === undefined) return all;
  return both(all, lacks?.prompt === true ? EITHER : bit(condition.prompt.test(facts.prompt)));
}

/** Whether the header or field that shares are dealt by wasn't recorded. */
function isKeyLacking(by: string, facts: RoutingFacts | RecordedFacts): boolean {
  if (!('lacks' in facts)) return false;
  const { header, path } = keySource(by);
  if (header !== undefined) return facts.lacks.header(header);
  // Where a record tells whether a field was there, it tells which key stood in it.
  return path !== undefined && facts.lacks.body(path, true);
}

/** Of several models the one that the request's key falls to, the first where it has none. */
function modelOf({ name, then: action }: Rule, facts: RoutingFacts): string | undefined {
  if ('refuse' in action || 'mixture' in action) return undefined;
  if ('model' in action) return action.model;
  const total = action.split.reduce((sum, { weight }) => sum + weight, 0);
  let left = (pointOf(action.by, facts, name) ?? 0) * total;
  const picked = action.split.find(({ weight }) => {
    left -= weight;
    return left < 0;
  });
  return (picked ?? action.split.at(-1))?.model;
}

function bodyHolds(test: BodyTest, value: unknown): boolean {
  if (test === true) return value !== undefined && value !== null;
  if ('anyOf' in test) return test.anyOf.some((wanted) => wanted === value);
  return typeof value === 'number' && within(test, value);
}

function includes(values: readonly string[], value: string | undefined): boolean {
  return value !== undefined && values.includes(value);
}

function within(
  { min = -Infinity, max = Infinity }: { min?: number | undefined; max?: number | undefined },
  value: number,
): boolean {
  return value >= min && value <= max;
}

function bit(truth: boolean): Possible {
  return truth ? TRUE : FALSE;
}

/** Kleene's "and" of each pair: the lesser, where false is less than unknown, and that less than true. */
function both(a: Possible, b: Possible): Possible {
  const isUnknown = (a & UNKNOWN && b & ~FALSE) || (b & UNKNOWN && a & ~FALSE);
  return (a & b & TRUE) | ((a | b) & FALSE) | (isUnknown ? UNKNOWN : 0);
}

/** Kleene's "or": the greater. */
function either(a: Possible, b: Possible): Possible {
  return negate(both(negate(a), negate(b)));
}

function negate(possible: Possible): Possible {
  return ((possible & TRUE) >> 2) | (possible & UNKNOWN) | ((possible & FALSE) << 2);
}
