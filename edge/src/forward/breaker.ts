/**
 * A circuit breaker for each region: one that keeps failing is left alone for a while, then asked by a single request whether it is back (M. Nygard, "Release
 * It!", 2007). Kept by one isolate, from what its own requests met.
 */

/** So many failures one after the other open it, */
const OPENING_FAILURES = 5;
/** or this share of the last requests. */
const OPENING_SHARE = 0.5;
const WINDOW = 20;
const FIRST_PAUSE_MS = 1_000;
const LONGEST_PAUSE_MS = 30_000;
/** A probe that takes longer is taken for lost: its request may have been cancelled. */
const PROBE_TIMEOUT_MS = 60_000;

export type BreakerState = 'closed' | 'open' | 'half-open';

export class Breaker {
  /** Latest last: whether it failed. */
  #outcomes: boolean[] = [];
  #openUntil: number | undefined;
  #openings = 0;
  #probeSince: number | undefined;

  state(now: number): BreakerState {
    if (this.#openUntil === undefined) return 'closed';
    return now < this.#openUntil ? 'open' : 'half-open';
  }

  /** Whether a request may go there; where one that asks whether it is back is under way, no other does. */
  allows(now: number): boolean {
    const state = this.state(now);
    if (state !== 'half-open') return state === 'closed';
    return this.#probeSince === undefined || now - this.#probeSince >= PROBE_TIMEOUT_MS;
  }

  /** A request goes there. */
  begin(now: number): void {
    if (this.state(now) === 'half-open') this.#probeSince = now;
  }

  succeed(): void {
    this.#note(false);
    this.#probeSince = undefined;
    if (this.#openUntil === undefined) return;
    this.#openUntil = undefined;
    this.#openings = 0;
    this.#outcomes = [];
  }

  fail(now: number): void {
    this.#note(true);
    this.#probeSince = undefined;
    const isProbe = this.state(now) === 'half-open';
    if (this.#openUntil !== undefined && !isProbe) return;
    if (!isProbe && !this.#isFailing()) return;
    this.#openUntil = now + Math.min(FIRST_PAUSE_MS * 2 ** this.#openings, LONGEST_PAUSE_MS);
    this.#openings++;
  }

  /** The request came to nothing that says anything of the region: its app left, or another region was quicker. */
  forget(): void {
    this.#probeSince = undefined;
  }

  #note(failed: boolean): void {
    this.#outcomes.push(failed);
    if (this.#outcomes.length > WINDOW) this.#outcomes.shift();
  }

  #isFailing(): boolean {
    const last = this.#outcomes.slice(-OPENING_FAILURES);
    if (last.length === OPENING_FAILURES && last.every(Boolean)) return true;
    return this.#outcomes.length === WINDOW && this.#outcomes.filter(Boolean).length >= OPENING_SHARE * WINDOW;
  }
}
