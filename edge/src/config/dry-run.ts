/**
 * What other rules would make of requests that have been: before they are put in force.
 *
 * A record doesn't have all that rules may look at. What is missing is never guessed: where the outcome hangs on it, it is unknown, and counted as such. Two
 * things help: a missing fact decides nothing where the others do; and of the rules that decided the request it is known which of them held, so that a condition
 * that both rule sets have need not be tried again.
 */
import {
  type Condition,
  type PossibleDecision,
  possibleDecisions,
  type RecordedFacts,
  type RoutingRules,
  type Rule,
} from '@signpost/contracts';

/** A request that has been, as far as it was recorded. */
export interface RecordedRequest {
  /** Its `x-request-id`. */
  readonly id: string;
  /** ISO 8601. */
  readonly time: string;
  readonly facts: RecordedFacts;
  /** The rule that decided it, and of which rules: as `RulesInForce.version` has it. */
  readonly decided: { readonly rule: string; readonly version: string } | undefined;
}

export interface RuleSet {
  readonly rules: RoutingRules;
  /** As `RulesInForce.version` has it. */
  readonly version: string;
}

/** What a request comes to, in short. */
interface ViewedOutcome {
  readonly rule: string;
  /** Null where it is refused. */
  readonly model: string | null;
  readonly refused: string | null;
}

export interface DryRun {
  /** Of these so many were tried, the latest. */
  readonly requests: number;
  readonly unchanged: number;
  readonly changed: number;
  /** Whose outcome hangs on what was not recorded, before or after. */
  readonly unknown: number;
  /** Requests by rule and by model, of those whose outcome is known before and after. */
  readonly rules: readonly Counted[];
  readonly models: readonly Counted[];
  /** The most frequent first. */
  readonly changes: readonly Change[];
  /** Rules that nobody can tell of whether they would have held, with how many requests they leave unknown. */
  readonly undecided: readonly { readonly rule: string; readonly requests: number }[];
}

interface Counted {
  readonly name: string;
  readonly before: number;
  readonly after: number;
}

interface Change {
  readonly before: ViewedOutcome;
  readonly after: ViewedOutcome;
  /** Names of the action's fields that differ, sorted. */
  readonly fields: readonly string[];
  readonly requests: number;
  readonly examples: readonly {
    readonly id: string;
    readonly time: string;
    readonly model: string;
    readonly tenant: string | null;
    readonly prompt_chars: number;
  }[];
}

const MAX_CHANGES = 20;
const MAX_EXAMPLES = 3;
/** In place of a model's name where a request is refused. */
const REFUSED = '(refused)';
/** And where it is of what the prompt's probabilities mix, which the record doesn't tell. */
const MIXTURE = '(mixture)';
/** In place of a rule's name where nobody can tell which of several it was. */
const SEVERAL = '(one of several)';

export function dryRun(old: RuleSet, young: RuleSet, requests: readonly RecordedRequest[]): DryRun {
  const byRule = new Counts();
  const byModel = new Counts();
  const undecided = new Map<string, number>();
  const changes = new Map<string, { -readonly [K in keyof Change]: Change[K] }>();
  let unchanged = 0;
  let changed = 0;
  for (const request of requests) {
    const truths = knownTruths(old, request);
    const was = possibleDecisions(old.rules, request.facts, truths);
    const willBe = possibleDecisions(young.rules, request.facts, truths);
    const doubt = doubtIn(was, request) ?? doubtIn(willBe, request);
    const [from] = was;
    const [to] = willBe;
    if (doubt !== undefined || from === undefined || to === undefined) {
      undecided.set(doubt ?? '', (undecided.get(doubt ?? '') ?? 0) + 1);
      continue;
    }
    byRule.add(ruleOf(was), ruleOf(willBe));
    byModel.add(modelOf(from, request) ?? REFUSED, modelOf(to, request) ?? REFUSED);
    const fields = differences(outcomeOf(from, request), outcomeOf(to, request));
    if (fields.length === 0) {
      unchanged++;
      continue;
    }
    changed++;
    const before = view(from, ruleOf(was), request);
    const after = view(to, ruleOf(willBe), request);
    const key = JSON.stringify([before, after, fields]);
    const change = changes.get(key) ?? { before, after, fields, requests: 0, examples: [] };
    change.requests++;
    if (change.examples.length < MAX_EXAMPLES) change.examples = [...change.examples, exampleOf(request)];
    changes.set(key, change);
  }
  return {
    requests: requests.length,
    unchanged,
    changed,
    unknown: requests.length - unchanged - changed,
    rules: byRule.list(),
    models: byModel.list(),
    changes: [...changes.values()].sort((a, b) => b.requests - a.requests).slice(0, MAX_CHANGES),
    undecided: [...undecided].map(([rule, of]) => ({ rule, requests: of })).sort((a, b) => b.requests - a.requests),
  };
}

/** Whether a rule held, from what is known of those that decided the request: those before the one that fired did not. */
function knownTruths({ rules, version }: RuleSet, { decided }: RecordedRequest): (rule: Rule) => boolean | undefined {
  const fired = decided?.version === version ? rules.rules.findIndex(({ name }) => name === decided.rule) : -1;
  const truths = new Map(rules.rules.slice(0, fired + 1).map((rule, i) => [conditionKey(rule), i === fired]));
  return (rule) => truths.get(conditionKey(rule));
}

const keys = new WeakMap<Rule, string>();

/** The same for rules whose conditions are the same. */
function conditionKey(rule: Rule): string {
  const known = keys.get(rule);
  if (known !== undefined) return known;
  // Patterns by their source. A share is dealt by its rule's name.
  const key = JSON.stringify([rule.when ?? null, hasShare(rule.when) ? rule.name : null]);
  keys.set(rule, key);
  return key;
}

function hasShare(condition: Condition | undefined): boolean {
  if (condition === undefined) return false;
  const { percent, all = [], any = [], not } = condition;
  return percent !== undefined || [...all, ...any].some(hasShare) || hasShare(not);
}

/** The rule for which a request's outcome is unknown: undefined where it is the same whichever of them held. */
function doubtIn(possible: readonly PossibleDecision[], request: RecordedRequest): string | undefined {
  const [first, ...others] = possible;
  if (first === undefined || first.model === 'unknown') return first?.rule;
  const outcome = outcomeOf(first, request);
  const isKnown = others.every((one) => differences(outcome, outcomeOf(one, request)).length === 0);
  return isKnown ? undefined : first.rule;
}

type Outcome = Readonly<Record<string, unknown>>;

/** All that an action says, with the model that it comes to for this request. */
function outcomeOf(decision: PossibleDecision, request: RecordedRequest): Outcome {
  const { action } = decision;
  if ('refuse' in action || 'mixture' in action) return action;
  // Of a split a request gets what it is dealt.
  return { ...action, split: undefined, by: undefined, model: modelOf(decision, request) };
}

/** Names of the fields in which two outcomes differ, sorted. */
function differences(a: Outcome, b: Outcome): string[] {
  const names = new Set([...Object.keys(a), ...Object.keys(b)]);
  // The schema puts what is within a field in order.
  return [...names].filter((name) => JSON.stringify(a[name]) !== JSON.stringify(b[name])).sort();
}

/** Null where the request is refused. */
function modelOf({ action, model }: PossibleDecision, { facts }: RecordedRequest): string | null {
  if ('mixture' in action) return MIXTURE;
  return (model === 'requested' ? facts.model : model) ?? null;
}

/** Several that come to the same are none by name. */
function ruleOf(possible: readonly PossibleDecision[]): string {
  const [first, second] = possible;
  return first === undefined || second !== undefined ? SEVERAL : first.rule;
}

function view(decision: PossibleDecision, rule: string, request: RecordedRequest): ViewedOutcome {
  const { action } = decision;
  const refused = 'refuse' in action ? action.refuse : null;
  return { rule, model: modelOf(decision, request), refused };
}

function exampleOf({ id, time, facts }: RecordedRequest): Change['examples'][number] {
  return { id, time, model: facts.model, tenant: facts.tenant ?? null, prompt_chars: facts.prompt.length };
}

class Counts {
  readonly #counts = new Map<string, { before: number; after: number }>();

  add(before: string, after: string): void {
    this.#of(before).before++;
    this.#of(after).after++;
  }

  /** The most frequent first. */
  list(): Counted[] {
    return [...this.#counts]
      .map(([name, counts]) => ({ name, ...counts }))
      .sort((a, b) => b.before + b.after - a.before - a.after);
  }

  #of(name: string): { before: number; after: number } {
    const counts = this.#counts.get(name) ?? { before: 0, after: 0 };
    this.#counts.set(name, counts);
    return counts;
  }
}
