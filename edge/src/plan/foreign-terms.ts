/**
 * What stands between a request and its first token where no heartbeat tells: at strangers' servers, and in Lambda.
 */
import type { ForeignLoad } from '../backends/foreign-load.ts';
import type { LambdaRegion } from './regions.ts';
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

/** AWS keeps a container that has answered for some minutes, and doesn't say for how many. */
const WARM_FOR_MS = 300_000;

/** @param sinceAnsweredMs since it last answered this isolate; undefined where it hasn't. */
export function coldStartTerm({ coldStartMs }: LambdaRegion, sinceAnsweredMs: number | undefined): PlanTerm {
  const term = 'cold-start';
  if (sinceAnsweredMs !== undefined && sinceAnsweredMs < WARM_FOR_MS)
    return { term, ms: 0, why: 'it has answered in the last five minutes' };
  return { term, ms: coldStartMs, why: 'it has not answered of late; as configured' };
}

/** Of a region that runs nothing; once it is awake, nothing waits there. */
export function sleepingTerms(usualMs: number, load: Load | undefined): PlanTerm[] {
  const wake = { term: 'wake' as const, ms: usualMs, why: 'it runs nothing and has to be woken; as configured' };
  return load === undefined ? [wake] : [wake, priorPrefillTerm(load)];
}
