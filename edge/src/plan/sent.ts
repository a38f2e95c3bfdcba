/**
 * Prompt tokens that this isolate has sent to a region, for as long as the region's heartbeats may not tell of them yet: without them all that comes between two
 * heartbeats would go where it was quiet at the first.
 */
import type { HeardBeat } from '../fleet/roll.ts';
import { prefillRate } from './terms.ts';

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

  /** @param now milliseconds since the epoch */
  add(tokens: number, now: number): void {
    const last = this.#sent.at(-1);
    if (last !== undefined && now - last.at < STEP_MS) {
      last.tokens += tokens;
      return;
    }
    while (this.#sent[0] !== undefined && now - this.#sent[0].at > KEPT_MS) this.#sent.shift();
    this.#sent.push({ at: now, tokens });
  }

  /** Of what was sent since a container's heartbeat, its share of what the region hasn't computed meanwhile. @param containers that share it */
  waiting({ beat, heardAt }: HeardBeat, containers: number, now: number): number {
    const perMs = prefillRate(beat) / 1_000;
    let tokens = 0;
    let at = heardAt;
    for (const sent of this.#sent) {
      if (sent.at <= heardAt) continue;
      tokens = Math.max(0, tokens - perMs * (sent.at - at)) + sent.tokens / containers;
      at = sent.at;
    }
    // Of two clocks one may be ahead.
    return Math.max(0, tokens - perMs * Math.max(0, now - at));
  }
}
