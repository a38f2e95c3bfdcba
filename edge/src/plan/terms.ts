/**
 * What stands between a request and its first token in one region, in milliseconds, each with its reason: from what the region last said of itself.
 */
import { type Catalogue, type Heartbeat, Problem, parseModelName, resolveTargets } from '@signpost/contracts';
import { residencyOf } from '../fleet/residency.ts';

export interface PlanTerm {
  readonly term: 'network' | 'queue' | 'page-in' | 'prefill' | 'cold-start' | 'wake';
  readonly ms: number;
  /** What the figure rests on, for people. */
  readonly why: string;
}

/** What of a request the terms depend on. */
export interface Load {
  /** The model's name as a region gets it. */
  readonly model: string;
  /** Its prompt's length, as far as it can be told without a tokenizer. */
  readonly promptTokens: number;
  /** Of these, the ones that a region may have in its prefix cache. */
  readonly cachedTokens?: (region: string) => number;
}

/** Until a region has measured its own: a small GPU's prefill, object storage nearby, memory. */
export const PRIOR_PREFILL_TOKENS_PER_SECOND = 2_000;
const PRIOR_STORE_BYTES_PER_SECOND = 50e6;
const PRIOR_HOST_BYTES_PER_SECOND = 1e9;

/**
 * Prompt tokens that wait, at the rate at which prompts are computed; the mean of the region's containers.
 *
 * @param sentSince by container: tokens that it has been sent since it said how many wait.
 */
export function queueTerm(beats: readonly Heartbeat[], sentSince: readonly number[]): PlanTerm {
  let ms = 0;
  let tokens = 0;
  let sent = 0;
  for (const [i, beat] of beats.entries()) {
    const since = sentSince[i] ?? 0;
    ms += (1_000 * (beat.queuedTokens + since)) / prefillRate(beat) / beats.length;
    tokens += beat.queuedTokens;
    sent += since;
  }
  const more = sent > 0 ? `, and about ${Math.ceil(sent)} sent since it said so` : '';
  return { term: 'queue', ms, why: `${tokens} prompt tokens wait${more}` };
}

/** Where nothing was heard. @param usualMs what the others would take on average @param sent tokens that it has been sent */
export function unheardTerm(usualMs: number, sent: number): PlanTerm {
  const more = sent > 0 ? `, after about ${Math.ceil(sent)} tokens that it was sent` : '';
  const ms = usualMs + (1_000 * sent) / PRIOR_PREFILL_TOKENS_PER_SECOND;
  return { term: 'queue', ms, why: `nothing heard of it; as the others on average${more}` };
}

/** Of the prompt, what the region may have in its prefix cache. */
export function cachedTokens({ promptTokens, cachedTokens }: Load, region: string): number {
  return Math.min(cachedTokens?.(region) ?? 0, promptTokens);
}

/** What isn't cached there. Of a region's containers one has it, and nobody knows which is asked. */
export function prefillTerm(beats: readonly Heartbeat[], load: Load): PlanTerm {
  const { promptTokens } = load;
  const cached = cachedTokens(load, beats[0]?.region ?? '');
  const tokens = promptTokens - cached / beats.length;
  const ms = mean(beats, (beat) => (1_000 * tokens) / prefillRate(beat));
  const where = beats.length > 1 ? ` in one of ${beats.length} containers` : '';
  const why = `about ${promptTokens} tokens${cached > 0 ? `, about ${cached} of them cached${where}` : ''}`;
  return { term: 'prefill', ms, why };
}

/** What of a model's experts has to be in slots: told from the catalogue once a plan, for all of its regions. */
export type Wanted =
  | { readonly kind: 'nothing'; readonly why: string }
  | {
      readonly kind: 'experts';
      /** Of a channel that several versions share, each as often as it is drawn; none for an expert that isn't there, which the region will say. */
      readonly experts: readonly { readonly name: string; readonly targets: readonly Target[] }[];
    };

interface Target {
  readonly version: { readonly digest: Heartbeat['base']; readonly bytes: number };
  readonly share: number;
}

export function wantedBy({ model }: Load, catalogue: Catalogue | undefined): Wanted {
  const named = parseModelName(model);
  const terms = named.kind === 'mixture' ? named.terms : [];
  if (terms.length === 0) return { kind: 'nothing', why: 'the base is always there' };
  if (catalogue === undefined) return { kind: 'nothing', why: 'no catalogue in R2 says what the experts are' };
  const experts = terms.map(({ expert: name, selector }) => {
    try {
      const targets = resolveTargets(catalogue, name, selector);
      const total = targets.reduce((sum, { weight }) => sum + weight, 0);
      return { name, targets: targets.map(({ version, weight }) => ({ version, share: weight / total })) };
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      return { name, targets: [] };
    }
  });
  return { kind: 'experts', experts };
}

/** The way of the model's experts into slots, where they aren't there. */
export function pageInTerm(beats: readonly Heartbeat[], wanted: Wanted): PlanTerm {
  if (wanted.kind === 'nothing') return { term: 'page-in', ms: 0, why: wanted.why };
  let ms = 0;
  const whys: string[] = [];
  for (const { name, targets } of wanted.experts) {
    if (targets.length === 0) whys.push(`${name} unknown`);
    for (const { version, share } of targets) {
      const costs = beats.map((beat) => pageInMs(beat, version));
      ms += (share * costs.reduce((sum, cost) => sum + cost.ms, 0)) / beats.length;
      whys.push(`${name} ${costs.map(({ where }) => where).join(' and ')}`);
    }
  }
  return { term: 'page-in', ms, why: whys.join(', ') };
}

function pageInMs(
  beat: Heartbeat,
  { digest, bytes }: Target['version'],
): { readonly ms: number; readonly where: string } {
  const { host, store } = beat.pageInBytesPerSecond;
  const cold = (1_000 * bytes) / (store ?? PRIOR_STORE_BYTES_PER_SECOND);
  const residency = residencyOf(beat, digest);
  switch (residency) {
    case 'device':
      return { ms: 0, where: 'resident' };
    case 'loading':
      // Somewhere between its first byte and its last.
      return { ms: cold / 2, where: 'loading' };
    case 'host':
      return { ms: (1_000 * bytes) / (host ?? PRIOR_HOST_BYTES_PER_SECOND), where: 'in memory' };
    case 'store':
      return { ms: cold, where: `cold, ${(bytes / 1e6).toFixed(1)} MB` };
    default:
      return residency satisfies never;
  }
}

export function prefillRate({ prefillTokensPerSecond }: Heartbeat): number {
  // A rate of nothing is none that was measured.
  return prefillTokensPerSecond || PRIOR_PREFILL_TOKENS_PER_SECOND;
}

function mean(beats: readonly Heartbeat[], value: (beat: Heartbeat) => number): number {
  return beats.reduce((sum, beat) => sum + value(beat), 0) / beats.length;
}
