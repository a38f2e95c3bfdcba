/**
 * The one evaluator of routing rules: used where requests are served, where a decision is explained, and on the command line.
 *
 * Conditions are three-valued (Kleene): while the classifier is cold or abstains, what asks for a label is neither true nor false, and a
 * rule fires only when its condition is true. So `not: {label: math}` doesn't fire on a prompt nobody has classified.
 */
import { valueAt } from './body-value.ts';
import type { Action, BodyTest, Condition, RoutingRules, Rule } from './rules.ts';
import { pointOf } from './share.ts';
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

export type Truth = boolean | 'unknown';

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

function ruleHolds(rule: Rule, facts: RoutingFacts): Truth {
  return rule.when === undefined ? true : holds(rule.when, facts, rule.name);
}

/** Whether a condition holds: every field given must. @param rule whose it is: each deals its shares for itself. */
export function holds(condition: Condition, facts: RoutingFacts, rule: string): Truth {
  const { classification } = facts;
  const parts: Truth[] = [];
  if (condition.all !== undefined) parts.push(every(condition.all.map((inner) => holds(inner, facts, rule))));
  if (condition.any !== undefined) parts.push(some(condition.any.map((inner) => holds(inner, facts, rule))));
  if (condition.not !== undefined) parts.push(negate(holds(condition.not, facts, rule)));
  if (condition.model !== undefined) parts.push(condition.model.includes(facts.model));
  if (condition.tenant !== undefined) parts.push(includes(condition.tenant, facts.tenant));
  if (condition.path !== undefined) parts.push(condition.path.includes(facts.path));
  for (const [name, wanted] of Object.entries(condition.header ?? {})) {
    const value = facts.headers.get(name);
    parts.push(wanted === true ? value !== null : includes(wanted, value ?? undefined));
  }
  if (condition.continent !== undefined) parts.push(includes(condition.continent, facts.continent));
  if (condition.country !== undefined) parts.push(includes(condition.country, facts.country));
  if (condition.colo !== undefined) parts.push(includes(condition.colo, facts.colo));
  if (condition.prompt !== undefined) parts.push(condition.prompt.test(facts.prompt));
  if (condition.promptChars !== undefined) parts.push(within(condition.promptChars, facts.prompt.length));
  if (condition.label !== undefined)
    parts.push(classification === undefined ? 'unknown' : condition.label.includes(classification.label));
  if (condition.confidence !== undefined)
    parts.push(classification === undefined ? 'unknown' : within(condition.confidence, classification.confidence));
  for (const [path, test] of Object.entries(condition.body ?? {}))
    parts.push(bodyHolds(test, valueAt(facts.body, path)));
  if (condition.time !== undefined) parts.push(isWithin(condition.time, facts.now));
  if (condition.percent !== undefined) {
    const point = pointOf(condition.percent.by, facts, rule);
    // Without a key there is nothing to stay the same for.
    parts.push(point !== undefined && point * 100 < condition.percent.of);
  }
  return every(parts);
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

function every(parts: readonly Truth[]): Truth {
  return parts.includes(false) ? false : parts.includes('unknown') ? 'unknown' : true;
}

function some(parts: readonly Truth[]): Truth {
  return parts.includes(true) ? true : parts.includes('unknown') ? 'unknown' : false;
}

function negate(part: Truth): Truth {
  return part === 'unknown' ? 'unknown' : !part;
}
