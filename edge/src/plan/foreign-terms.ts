/**
 * What stands between a request and its first token where no heartbeat tells: at strangers' servers, in Lambda, in a region that sleeps.
 */
import type { ForeignLoad } from '../backends/foreign-load.ts';
import type { ColdStart } from './plan.ts';
import type { LambdaRegion, WakeHook } from './regions.ts';
import { type Load, type PlanTerm, PRIOR_PREFILL_TOKENS_PER_SECOND } from './terms.ts';

/** Strangers tell of requests that wait, not of their length: a prompt of 500 tokens each, at the usual rate. */
const PRIOR_WAITING_MS = (1_000 * 500) / PRIOR_PREFILL_TOKENS_PER_SECOND;

/** None where the server tells nothing. */
export function foreignTerms(told: ForeignLoad | undefined, load: Load): PlanTerm[] {
  if (told === undefined) return [];
  const { waiting, running } = told;
  return [
    {
      term: 'queue',
      ms: waiting * PRIOR_WAITING_MS,
      why: `${waiting} requests wait, ${running} run (its metrics); ${PRIOR_WAITING_MS} ms for each that waits`,
    },
    priorPrefillTerm(load),
  ];
}

export function priorPrefillTerm({ promptTokens }: Load): PlanTerm {
  return {
    term: 'prefill',
    ms: (1_000 * promptTokens) / PRIOR_PREFILL_TOKENS_PER_SECOND,
    why: `about ${promptTokens} tokens, at a usual rate`,
  };
}

export function coldStartTerm({ coldStartMs }: LambdaRegion, seen: ColdStart | undefined): PlanTerm {
  const term = 'cold-start';
  if (seen?.isWarm === true) return { term, ms: 0, why: 'it has answered of late' };
  if (seen?.measuredMs !== undefined) return { term, ms: seen.measuredMs, why: 'as measured, the mean of the last' };
  return { term, ms: coldStartMs, why: 'none was measured yet; as configured' };
}

/** Once it is awake, nothing waits. */
export function sleepingTerms(hook: WakeHook | undefined, load: Load): PlanTerm[] {
  return [
    { term: 'wake', ms: hook?.usualMs ?? 0, why: 'it runs nothing and has to be woken; as configured' },
    priorPrefillTerm(load),
  ];
}
