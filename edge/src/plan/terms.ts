/**
 * What stands between a request and its first token in one region, in milliseconds, each with its reason: from what the region last said of itself.
 */
import { type Catalogue, type Heartbeat, Problem, parseModelName, resolveTargets } from '@signpost/contracts';

export interface PlanTerm {
  readonly term: 'network' | 'queue' | 'page-in' | 'prefill' | 'cold-start';
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

/** Prompt tokens that wait, at the rate at which prompts are computed; the mean of the region's containers. */
export function queueTerm(beats: readonly Heartbeat[]): PlanTerm {
  const ms = mean(beats, (beat) => (1_000 * beat.queuedTokens) / prefillRate(beat));
  const tokens = beats.reduce((sum, { queuedTokens }) => sum + queuedTokens, 0);
  return { term: 'queue', ms, why: `${tokens} prompt tokens wait` };
}

/** What isn't cached there. Of a region's containers one has it, and nobody knows which is asked. */
export function prefillTerm(beats: readonly Heartbeat[], { promptTokens, cachedTokens }: Load): PlanTerm {
  const cached = Math.min(cachedTokens?.(beats[0]?.region ?? '') ?? 0, promptTokens);
  const tokens = promptTokens - cached / beats.length;
  const ms = mean(beats, (beat) => (1_000 * tokens) / prefillRate(beat));
  const where = beats.length > 1 ? ` in one of ${beats.length} containers` : '';
  const why = `about ${promptTokens} tokens${cached > 0 ? `, about ${cached} of them cached${where}` : ''}`;
  return { term: 'prefill', ms, why };
}

/** The way of the model's experts into slots, where they aren't there. */
export function pageInTerm(beats: readonly Heartbeat[], { model }: Load, catalogue: Catalogue | undefined): PlanTerm {
  const named = parseModelName(model);
  const terms = named.kind === 'mixture' ? named.terms : [];
  if (terms.length === 0) return { term: 'page-in', ms: 0, why: 'the base is always there' };
  if (catalogue === undefined) return { term: 'page-in', ms: 0, why: 'no catalogue in R2 says what the experts are' };
  let ms = 0;
  const whys: string[] = [];
  for (const { expert, selector } of terms) {
    try {
      // Of a channel that several versions share, each as often as it is drawn.
      const targets = resolveTargets(catalogue, expert, selector);
      const total = targets.reduce((sum, { weight }) => sum + weight, 0);
      for (const { version, weight } of targets) {
        const costs = beats.map((beat) => pageInMs(beat, version));
        ms += ((weight / total) * costs.reduce((sum, cost) => sum + cost.ms, 0)) / beats.length;
        whys.push(`${expert} ${costs.map(({ where }) => where).join(' and ')}`);
      }
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      // The region will say so.
      whys.push(`${expert} unknown`);
    }
  }
  return { term: 'page-in', ms, why: whys.join(', ') };
}

function pageInMs(
  { experts, pageInBytesPerSecond: rates }: Heartbeat,
  { digest, bytes }: { readonly digest: Heartbeat['base']; readonly bytes: number },
): { readonly ms: number; readonly where: string } {
  if (experts.device.includes(digest)) return { ms: 0, where: 'resident' };
  const cold = (1_000 * bytes) / (rates.store ?? PRIOR_STORE_BYTES_PER_SECOND);
  // Somewhere between its first byte and its last.
  if (experts.loading.includes(digest)) return { ms: cold / 2, where: 'loading' };
  if (experts.host.includes(digest))
    return { ms: (1_000 * bytes) / (rates.host ?? PRIOR_HOST_BYTES_PER_SECOND), where: 'in memory' };
  return { ms: cold, where: `cold, ${(bytes / 1e6).toFixed(1)} MB` };
}

function prefillRate({ prefillTokensPerSecond }: Heartbeat): number {
  // A rate of nothing is none that was measured.
  return prefillTokensPerSecond || PRIOR_PREFILL_TOKENS_PER_SECOND;
}

function mean(beats: readonly Heartbeat[], value: (beat: Heartbeat) => number): number {
  return beats.reduce((sum, beat) => sum + value(beat), 0) / beats.length;
}
