/**
 * Which requests the engine still takes, and when to come back for those it doesn't: caps on requests in flight and on prompt tokens that
 * wait for their first step. Knows no engine; time is given to it.
 */
import { ApiError } from '@signpost/contracts';

export interface AdmissionLimits {
  /** Requests in flight. */
  readonly maxRequests: number;
  /** Tokens of prompts that wait. One that finds nobody waiting is taken whatever its length. */
  readonly maxQueuedTokens: number;
}

/** A request that was taken. */
export interface Ticket {
  /** Its prompt doesn't wait any more. */
  start(): void;
  /** It is over, started or not. */
  leave(): void;
}

/** Seconds over which rates are averaged. */
const WINDOW_SECONDS = 60;
const LONGEST_RETRY_SECONDS = 60;

export class Admission {
  readonly #limits: AdmissionLimits;
  readonly #now: () => number;
  #inFlight = 0;
  #queuedTokens = 0;
  /** Both by the time in which there was work: an idle hour says nothing about how fast a queue drains. */
  readonly #ends = new Rate();
  readonly #startedTokens = new Rate();
  #busySeconds = 0;
  #seenAt: number;

  /** @param now milliseconds of a clock that doesn't go back. */
  constructor(limits: AdmissionLimits, now: () => number = () => performance.now()) {
    this.#limits = limits;
    this.#now = now;
    this.#seenAt = now();
  }

  /** Prompt tokens that wait for their first step. */
  get queuedTokens(): number {
    return this.#queuedTokens;
  }

  /** Counts a request in. @throws ApiError (429) with the seconds after which there should be room. */
  enter(promptTokens: number): Ticket {
    const { maxRequests, maxQueuedTokens } = this.#limits;
    const at = this.#clock();
    if (this.#inFlight >= maxRequests) {
      const about = `this region has ${this.#inFlight} requests in flight, as many as it takes`;
      throw regionFull(about, this.#ends.secondsFor(1, at));
    }
    const excess = this.#queuedTokens + promptTokens - maxQueuedTokens;
    if (excess > 0 && this.#queuedTokens > 0) {
      const about = `${this.#queuedTokens} prompt tokens wait in this region, which takes ${maxQueuedTokens}; yours has ${promptTokens}`;
      throw regionFull(about, this.#startedTokens.secondsFor(Math.min(excess, this.#queuedTokens), at));
    }
    this.#inFlight++;
    this.#queuedTokens += promptTokens;
    let [isQueued, isOver] = [true, false];
    const unqueue = (): boolean => {
      const wasQueued = isQueued;
      isQueued = false;
      if (wasQueued) this.#queuedTokens -= promptTokens;
      return wasQueued;
    };
    return {
      start: () => {
        const now = this.#clock();
        if (unqueue()) this.#startedTokens.count(promptTokens, now);
      },
      leave: () => {
        if (isOver) return;
        isOver = true;
        this.#ends.count(1, this.#clock());
        unqueue();
        this.#inFlight--;
      },
    };
  }

  /** Seconds, so far, in which anything was in flight. */
  #clock(): number {
    const now = this.#now();
    if (this.#inFlight > 0) this.#busySeconds += (now - this.#seenAt) / 1000;
    this.#seenAt = now;
    return this.#busySeconds;
  }
}

/** Events a second, the latest counting most. */
class Rate {
  #sum = 0;
  #at = 0;

  count(amount: number, at: number): void {
    this.#sum = this.#sum * Math.exp((this.#at - at) / WINDOW_SECONDS) + amount;
    this.#at = at;
  }

  /** Whole seconds in which `amount` will have passed; 1 where nothing has been measured. */
  secondsFor(amount: number, at: number): number {
    const sum = this.#sum * Math.exp((this.#at - at) / WINDOW_SECONDS);
    // What a constant rate of 1 would have summed to by now.
    const weight = WINDOW_SECONDS * (1 - Math.exp(-at / WINDOW_SECONDS));
    const seconds = sum > 0 ? Math.ceil((amount * weight) / sum) : 1;
    return Math.min(Math.max(seconds, 1), LONGEST_RETRY_SECONDS);
  }
}

function regionFull(about: string, retryAfterSeconds: number): ApiError {
  return new ApiError('rate_limit_error', 'region_full', `${about}; try again in ${retryAfterSeconds} s`, {
    retryAfterSeconds,
  });
}
