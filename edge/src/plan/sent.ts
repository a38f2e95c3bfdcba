/**
 * Prompt tokens that this isolate has sent to a region, for as long as the region's heartbeats may not tell of them yet: without them all that comes between two
 * heartbeats would go where it was quiet at the first.
 */
import type { HeardBeat } from '../fleet/roll.ts';
import { PRIOR_PREFILL_TOKENS_PER_SECOND, prefillRate } from './terms.ts';

interface Sent {
  readonly at: number;
  tokens: number;
}

/** What is sent within so long counts as one. */
const STEP_MS = 50;
/** A heartbeat that counts is newer than that. */
const KEPT_MS = 15_000;

export class SentTokens {
  /** Oldest first. */
  readonly #sent: Sent[] = [];
  #unanswered = 0;

  /** Of a request that is sent. @param now milliseconds since the epoch */
  add(tokens: number, now: number): void {
    this.#unanswered += tokens;
    const last = this.#sent.at(-1);
    if (last !== undefined && now - last.at < STEP_MS) {
      last.tokens += tokens;
      return;
    }
    while (this.#sent[0] !== undefined && now - this.#sent[0].at > KEPT_MS) this.#sent.shift();
    this.#sent.push({ at: now, tokens });
  }

  /** Of one that has its answer's beginning, or will have none. */
  settle(tokens: number): void {
    this.#unanswered -= tokens;
  }

  /**
   * Of what was sent since a container's heartbeat, its share of what the region can't have computed meanwhile, and hasn't answered.
   *
   * @param heard undefined for a region that nothing is heard of: all that it was sent counts, computed at the usual rate.
   * @param containers that share it
   */
  waiting(heard: HeardBeat | undefined, containers: number, now: number): number {
    const perMs = (heard === undefined ? PRIOR_PREFILL_TOKENS_PER_SECOND : prefillRate(heard.beat)) / 1_000;
    const heardAt = heard?.heardAt ?? Number.NEGATIVE_INFINITY;
    let tokens = 0;
    let at = heardAt;
    for (const sent of this.#sent) {
      if (sent.at <= heardAt) continue;
      tokens = Math.max(0, tokens - perMs * (sent.at - at)) + sent.tokens / containers;
      at = sent.at;
    }
    // Of two clocks one may be ahead.
    const uncomputed = Math.max(0, tokens - perMs * Math.max(0, now - at));
    return Math.min(uncomputed, this.#unanswered / containers);
  }
}
