/**
 * Which versions answer: of a channel that several share (a canary), the one that the request's key falls to. Always the same for the same key, and whoever has a
 * version keeps it while its share grows.
 */
import {
  type Catalogue,
  DEFAULT_CHANNEL,
  type ExpertVersion,
  formatModelName,
  keyOf,
  type ModelTerm,
  Problem,
  parseModelName,
  pointOf,
  resolveTargets,
} from '@signpost/contracts';

/** One expert's part of a model, and why it is this version. */
interface ChosenVersion {
  readonly expert: string;
  /** The channel or digest it was asked for by. */
  readonly selector: string;
  readonly version: ExpertVersion;
  /** In the mixture. */
  readonly weight: number;
  /** Of the channel's requests that fall to this version. */
  readonly share: number;
  /** `only`: there is no other. `drawn`: the request has no key to stick to. Else the key. */
  readonly by: string;
}

export interface ChosenModel {
  /** As regions are asked for it. */
  readonly name: string;
  /** None for the base; undefined where the catalogue isn't known or doesn't have them: the region decides, or says what is wrong. */
  readonly versions: readonly ChosenVersion[] | undefined;
}

/** What a choice rests on. */
export interface ChoiceFacts {
  readonly tenant: string | undefined;
  readonly headers: { get(name: string): string | null };
  readonly body: Readonly<Record<string, unknown>>;
}

/**
 * A channel of one version goes on by its name: there is nothing to choose, and a region hears of the next one sooner than the edge does.
 *
 * @param by what requests are told apart by: `tenant`, `header NAME`, `body PATH`.
 * @throws Problem for what is no model name.
 */
export function chooseVersions(
  name: string,
  by: string,
  facts: ChoiceFacts,
  catalogue: Catalogue | undefined,
): ChosenModel {
  const model = parseModelName(name);
  const terms = model.kind === 'mixture' ? model.terms : [];
  if (terms.length === 0) return { name, versions: [] };
  if (catalogue === undefined) return { name, versions: undefined };
  try {
    const versions = terms.map((term) => choose(term, by, facts, catalogue));
    if (versions.every(({ by: why }) => why === 'only')) return { name, versions };
    const pinned = versions.map(({ version, by: why }, i): ModelTerm => {
      const { expert = '', weight = 1, ...rest } = terms[i] ?? {};
      return why === 'only' ? { expert, weight, ...rest } : { expert, weight, selector: version.digest };
    });
    return { name: formatModelName({ kind: 'mixture', terms: pinned }), versions };
  } catch (error) {
    if (error instanceof Problem) return { name, versions: undefined };
    throw error;
  }
}

/** What `x-signpost-digest` says where just these versions answered. */
export function digestsOf(versions: readonly ChosenVersion[]): string {
  return versions.map(({ version }) => version.digest).join('+');
}

function choose(
  { expert, selector = DEFAULT_CHANNEL, weight }: ModelTerm,
  by: string,
  facts: ChoiceFacts,
  catalogue: Catalogue,
): ChosenVersion {
  const targets = resolveTargets(catalogue, expert, selector);
  const total = targets.reduce((sum, target) => sum + target.weight, 0);
  const isKeyed = keyOf(by, facts) !== undefined;
  // Weighted rendezvous hashing (Schindelhauer and Schomaker 2005): a weight that grows takes from the others, and moves nobody between them.
  const score = (target: (typeof targets)[number]) => {
    const point = isKeyed ? pointOf(by, facts, `${expert}@${target.version.digest}`) : Math.random();
    return -target.weight / Math.log(point ?? 0);
  };
  const [first, ...others] = targets.map((target) => ({ ...target, score: targets.length === 1 ? 1 : score(target) }));
  if (first === undefined) throw new Problem(`expert "${expert}": ${selector} points at nothing`);
  const chosen = others.reduce((best, other) => (other.score > best.score ? other : best), first);
  return {
    expert,
    selector,
    version: chosen.version,
    weight,
    share: chosen.weight / total,
    by: targets.length === 1 ? 'only' : isKeyed ? by : 'drawn',
  };
}
