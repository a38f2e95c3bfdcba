/**
 * How long something takes that is done over and over.
 */
import { median } from '../percentiles.ts';

/** Calls that are made first, and not counted. */
const WARM_CALLS = 2;
const ROUNDS = 3;

/** Seconds that `calls` calls take, the median of some rounds. */
export async function secondsOf(calls: number, one: (call: number) => Promise<void>): Promise<number> {
  for (let call = 0; call < WARM_CALLS; call++) await one(call);
  const rounds: number[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    const start = performance.now();
    for (let call = 0; call < calls; call++) await one(call);
    rounds.push((performance.now() - start) / 1e3);
  }
  return median(rounds);
}
