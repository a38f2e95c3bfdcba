/**
 * Who may answer one request: its plan's regions that are awake; made anew where a stream breaks or nobody answers, since much may have changed by then. Where all
 * sleep, a stream waits for the first of them to wake; anything else is told when to come again, since its app would hear nothing for minutes.
 */
import type { Waker } from '../backends/waker.ts';
import type { Knowledge } from '../fleet/knowledge.ts';
import type { Candidates } from '../forward/forward.ts';
import { nobodyAwake, type PlannedRegion, worthWaking } from '../plan/plan.ts';
import { type Region, wakeHook } from '../plan/regions.ts';
import type { ServedResolution } from '../route/route.ts';

export interface CandidateParts {
  readonly knowledge: Knowledge;
  readonly waker: Waker;
  readonly delivery: 'stream' | 'whole';
  readonly isFit: (region: Region) => boolean;
  /** How long a stream waits, in all. */
  readonly wakeMs: number;
  readonly waitUntil: (promise: Promise<unknown>) => void;
}

/** A region that has begun to answer says so within two seconds, and isolates hear it a second later. */
const POLL_MS = 500;

export function candidatesFor(
  { plan, planBy }: ServedResolution,
  { knowledge, waker, delivery, isFit, wakeMs, waitUntil }: CandidateParts,
): Candidates {
  const untilMs = Date.now() + wakeMs;
  const fitting = (of: readonly PlannedRegion[]) => of.filter(({ region }) => isFit(region));
  const planned = async () => fitting(planBy(await knowledge.recent(waitUntil)));
  const wake = (asleep: readonly PlannedRegion[]) => {
    for (const region of worthWaking(asleep)) waker.wake(region, waitUntil);
  };
  const isAsleep = (one: PlannedRegion) => one.isAsleep;
  let isFirst = true;
  return async (signal, failure) => {
    let now = isFirst ? fitting(plan) : await planned();
    isFirst = false;
    if (failure !== undefined && !now.some(isAsleep) && now.some(({ region }) => wakeHook(region) !== undefined)) {
      // An isolate's first request may have failed before it has heard of anybody.
      await pause(POLL_MS, signal);
      now = await planned();
    }
    // Who has just failed is no candidate, awake or not; who slept at that time is, once awake.
    const names = new Set(now.filter((one) => failure === undefined || isAsleep(one)).map(({ region }) => region.name));
    if (failure !== undefined && names.size === 0) throw failure;
    for (;;) {
      const wanted = now.filter(({ region }) => names.has(region.name));
      const awake = wanted.filter((one) => !isAsleep(one));
      if (awake.length > 0 || wanted.length === 0) return awake.map(({ region }) => region);
      wake(wanted);
      if (delivery === 'whole' || Date.now() >= untilMs) throw nobodyAwake(wanted);
      await pause(POLL_MS, signal);
      now = await planned();
    }
  };
}

/** @throws the signal's reason once it aborts. */
function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const onAbort = () => {
      clearTimeout(timer);
      reject(signal.reason);
    };
    const timer = setTimeout(() => {
      signal.removeEventListener('abort', onAbort);
      resolve();
    }, ms);
    if (signal.aborted) onAbort();
    else signal.addEventListener('abort', onAbort, { once: true });
  });
}
