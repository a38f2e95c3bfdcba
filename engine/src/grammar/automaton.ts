/**
 * A grammar as a machine that reads bytes.
 *
 * A state is the set of everything the text may go on with: lists of rules still to be matched, the first of which begins with a byte. States are
 * made when they are first reached and found again by what they hold, so a step is a table look-up wherever the text has been before.
 */
import { type Rule, repeat } from './rule.ts';

/** What is still to be matched: a rule, then the rest. Equal lists are one object. */
interface Pending {
  readonly id: number;
  readonly rule: Rule;
  readonly rest: Pending | undefined;
}

type Terminal = Pending & { readonly rule: Extract<Rule, { kind: 'byte' }> };

export interface State {
  /** Ways to go on; none where only the end is left. */
  readonly terminals: readonly Terminal[];
  /** Whether the text may end here. */
  readonly isComplete: boolean;
  /** Next state by byte: undefined where not yet known, null where the byte isn't allowed. */
  readonly next: (State | null | undefined)[]; // (256)
  /** Tokens that may come next; made on demand by whoever knows a vocabulary. */
  mask?: Uint32Array;
}

/** States kept for look-up. Beyond it they are forgotten and made again: memory is bounded, answers don't change. */
const MAX_STATES = 2_000;

export class Automaton {
  readonly start: State;
  readonly #repeats = new Map<Rule, Map<string, Rule>>();
  #pending = new Map<Rule, Map<Pending | undefined, Pending>>();
  #states = new Map<string, State>();
  #known: State[] = [];
  #lastId = 0;

  constructor(root: Rule) {
    this.start = this.#close([{ rule: root, rest: undefined }]);
  }

  /** The state after one more byte; undefined where the grammar doesn't allow it. */
  step(state: State, byte: number): State | undefined {
    const known = state.next[byte];
    if (known !== undefined) return known ?? undefined;
    const after = state.terminals.filter(({ rule }) => byte >= rule.low && byte <= rule.high).map(({ rest }) => rest);
    const next = after.length === 0 ? undefined : this.#closeRests(after);
    state.next[byte] = next ?? null;
    return next;
  }

  #closeRests(rests: readonly (Pending | undefined)[]): State {
    const open: { rule: Rule; rest: Pending | undefined }[] = [];
    let isComplete = false;
    for (const rest of rests) {
      if (rest === undefined) isComplete = true;
      else open.push(rest);
    }
    return this.#close(open, isComplete);
  }

  /** Replaces each list by those that begin with a byte. */
  #close(first: readonly { rule: Rule; rest: Pending | undefined }[], reachesEnd = false): State {
    const terminals = new Set<Terminal>();
    const visited = new Set<Pending>();
    let isComplete = reachesEnd;
    const open = first.map(({ rule, rest }) => this.#list(rule, rest));
    const follow = (list: Pending | undefined) => {
      if (list === undefined) isComplete = true;
      else open.push(list);
    };
    for (let list = open.pop(); list !== undefined; list = open.pop()) {
      if (visited.has(list)) continue;
      visited.add(list);
      const { rule, rest } = list;
      switch (rule.kind) {
        case 'byte':
          terminals.add(list as Terminal);
          break;
        case 'sequence':
          follow(rule.items.reduceRight<Pending | undefined>((after, item) => this.#list(item, after), rest));
          break;
        case 'choice':
          for (const option of rule.options) follow(this.#list(option, rest));
          break;
        case 'repeat': {
          if (rule.min === 0) follow(rest);
          if (rule.max > 0) follow(this.#list(rule.item, this.#list(this.#lessOne(rule), rest)));
          break;
        }
        case 'reference':
          if (rule.target === undefined) throw new Error('a reference was left open');
          follow(this.#list(rule.target, rest));
          break;
        default:
          rule satisfies never;
      }
    }
    return this.#state([...terminals], isComplete);
  }

  #state(terminals: Terminal[], isComplete: boolean): State {
    terminals.sort((a, b) => a.id - b.id);
    const key = `${isComplete}${terminals.map(({ id }) => id).join()}`;
    const known = this.#states.get(key);
    if (known !== undefined) return known;
    if (this.#states.size >= MAX_STATES) this.#forget();
    const state: State = { terminals, isComplete, next: new Array(256) };
    this.#states.set(key, state);
    this.#known.push(state);
    return state;
  }

  /** Cuts the states apart, so that those no text is in can go. */
  #forget(): void {
    for (const state of this.#known) {
      state.next.fill(undefined);
      delete state.mask;
    }
    this.#known = [];
    this.#states = new Map();
    this.#pending = new Map();
  }

  #list(rule: Rule, rest: Pending | undefined): Pending {
    const byRest = entry(this.#pending, rule, () => new Map<Pending | undefined, Pending>());
    return entry(byRest, rest, () => ({ id: ++this.#lastId, rule, rest }));
  }

  /** The repetition that is left after one round. */
  #lessOne(rule: Extract<Rule, { kind: 'repeat' }>): Rule {
    if (rule.min === 0 && rule.max === Number.POSITIVE_INFINITY) return rule;
    const { item, min, max } = rule;
    const [least, most] = [Math.max(0, min - 1), max - 1];
    const byBounds = entry(this.#repeats, item, () => new Map<string, Rule>());
    return entry(byBounds, `${least},${most}`, () => repeat(item, least, most));
  }
}

/** The map's value for a key, made where it has none. */
function entry<K, V>(map: Map<K, V>, key: K, make: () => V): V {
  const known = map.get(key);
  if (known !== undefined) return known;
  const made = make();
  map.set(key, made);
  return made;
}
