/**
 * The fleet as one isolate knows it: a copy about a second old. No request waits for a newer one; the first of an isolate goes without.
 */
import type { HeardBeat } from './roll.ts';

const MAX_AGE_MS = 1_000;
/** A refresh that takes longer is taken for lost (its request may have been cancelled), and another one starts. */
const REFRESH_TIMEOUT_MS = 5_000;

export interface FleetViewOptions {
  readonly read: () => Promise<readonly HeardBeat[]>;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
  readonly log: (event: string, fields: Record<string, unknown>) => void;
}

export class FleetView {
  readonly #options: FleetViewOptions;
  #beats: readonly HeardBeat[] = [];
  #readAt = Number.NEGATIVE_INFINITY;
  #refreshStartedAt = Number.NEGATIVE_INFINITY;

  constructor(options: FleetViewOptions) {
    this.#options = options;
  }

  /** @param waitUntil keeps a refresh running beyond the request. */
  current(waitUntil: (promise: Promise<unknown>) => void): readonly HeardBeat[] {
    const now = this.#options.now();
    if (now - this.#readAt >= MAX_AGE_MS && now - this.#refreshStartedAt >= REFRESH_TIMEOUT_MS) {
      this.#refreshStartedAt = now;
      waitUntil(this.#refresh());
    }
    return this.#beats;
  }

  /** Never rejects: what was known stays, and the next request tries again. */
  async #refresh(): Promise<void> {
    const { read, now, log } = this.#options;
    try {
      this.#beats = await read();
      this.#readAt = now();
    } catch (error) {
      log('fleet_unreadable', { reason: String(error) });
    }
    this.#refreshStartedAt = Number.NEGATIVE_INFINITY;
  }
}
