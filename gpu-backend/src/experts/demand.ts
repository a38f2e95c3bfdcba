/**
 * How much each expert is asked for: what decides who gives up a slot, or a place in memory.
 *
 * A request counts one, and half as much after each `halfLife` further requests for anything: recency and frequency in one figure (LRFU: Lee et al.,
 * "LRFU: a spectrum of policies that subsumes the least recently used and least frequently used policies", IEEE Trans. Computers 50(12), 2001).
 * An expert that has lost its slot keeps its figure, so that one asked for now and then isn't new each time.
 */
import type { Digest } from '@signpost/contracts';

/** In requests. Of the values measured (`bench/src/replacement.ts`) the one that does well both where popularity stays and where it drifts. */
const HALF_LIFE = 256;
/** Experts that are remembered: more than a region has in its catalogue, versions of the last weeks included. */
const MAX_REMEMBERED = 4_096;

/** What is known of an expert that was asked for. */
export interface Usage {
  readonly requests: number;
  /** Those that found it in a slot, whole. */
  readonly hits: number;
  /** Milliseconds since the epoch. */
  readonly lastUse: number;
}

interface Entry {
  /** As of request `at`. */
  value: number;
  at: number;
  requests: number;
  hits: number;
  lastUse: number;
}

export class Demand {
  readonly #halfLife: number;
  /** The one asked for last stands last. */
  readonly #entries = new Map<Digest, Entry>();
  #requests = 0;

  constructor(halfLife = HALF_LIFE) {
    this.#halfLife = halfLife;
  }

  /** Counts a request, and whether it found the expert ready. */
  count(digest: Digest, isHit: boolean): void {
    this.#requests++;
    const { requests = 0, hits = 0 } = this.#entries.get(digest) ?? {};
    const value = this.of(digest) + 1;
    this.#entries.delete(digest);
    this.#entries.set(digest, {
      value,
      at: this.#requests,
      requests: requests + 1,
      hits: hits + Number(isHit),
      lastUse: Date.now(),
    });
    const [oldest] = this.#entries.keys();
    if (this.#entries.size > MAX_REMEMBERED && oldest !== undefined) this.#entries.delete(oldest);
  }

  /** Requests of late; 0 for an expert that was never asked for. */
  of(digest: Digest): number {
    const entry = this.#entries.get(digest);
    return entry === undefined ? 0 : entry.value * 2 ** ((entry.at - this.#requests) / this.#halfLife);
  }

  usage(digest: Digest): Usage | undefined {
    return this.#entries.get(digest);
  }
}
