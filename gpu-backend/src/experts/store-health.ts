/**
 * Whether the store answers, as readings of it find out: without it each load would hold a slot until its attempts are used up, and what is in memory would wait in
 * line behind loads that come to nothing. A circuit breaker (M. Nygard, "Release It!", 2007) that goes by silence, since what a store that is gone is
 * asked for takes many seconds to fail.
 */
import type { Digest } from '@signpost/contracts';
import type { ReadingOptions } from './expert-reader.ts';

/** One file's reading from the store. */
export interface WatchedReading {
  /** The same, with an ear to all that comes, right or wrong. */
  hearing(reading: ReadingOptions): ReadingOptions;
  /** It has ended, whatever came of it. */
  end(): void;
}

interface Reading {
  readonly digest: Digest;
  readonly began: number;
  /** When its last bytes came; at first, when it began. */
  heardAt: number;
}

/** The store is taken to be down when nothing has come for so long, though something was waited for: longer than the pauses between attempts. */
export const SILENCE_MS = 5_000;
/** While it is down one reading begins so often, to find out whether it is back; */
export const TRIAL_EVERY_MS = 2_000;
/** and one of which nothing has come for so long is hopeless. */
const HOPELESS_MS = 2_500;
const LOOK_EVERY_MS = 500;

export class StoreHealth {
  readonly #onSilence: () => void;
  readonly #now: () => number;
  readonly #readings = new Set<Reading>();
  #answeredAt = Number.NEGATIVE_INFINITY;
  #triedAt = Number.NEGATIVE_INFINITY;
  #isDown = false;
  #timer: NodeJS.Timeout | undefined;

  /**
   * @param onSilence called now and then while the store is down and waited for: readings may have become hopeless.
   * @param now milliseconds of a clock that never goes back.
   */
  constructor(onSilence: () => void, now: () => number = () => performance.now()) {
    this.#onSilence = onSilence;
    this.#now = now;
  }

  /** Whether something is waited for in vain. */
  get isDown(): boolean {
    return this.#isDown && this.#readings.size > 0;
  }

  /** Why no further reading is to begin now; undefined where one may. */
  get refusal(): string | undefined {
    if (!this.#isDown || this.#now() - this.#triedAt >= TRIAL_EVERY_MS) return undefined;
    return `nothing has come from the store for ${SILENCE_MS / 1_000} s or more`;
  }

  begins(digest: Digest): WatchedReading {
    const began = this.#now();
    const reading: Reading = { digest, began, heardAt: began };
    this.#readings.add(reading);
    this.#triedAt = began;
    this.#look();
    const hears = () => {
      this.#isDown = false;
      this.#answeredAt = this.#now();
      reading.heardAt = this.#answeredAt;
    };
    return {
      hearing: (options) => ({
        ...options,
        onChunk: (data, start) => {
          hears();
          options.onChunk(data, start);
        },
        onMismatch: (check) => {
          hears();
          options.onMismatch?.(check);
        },
      }),
      end: () => void this.#readings.delete(reading),
    };
  }

  /** Whether nothing comes of a file as long as the store is down. */
  isHopeless(digest: Digest): boolean {
    const now = this.#now();
    const isSilent = (one: Reading) => one.digest === digest && now - one.heardAt >= HOPELESS_MS;
    return this.#isDown && [...this.#readings].some(isSilent);
  }

  #look(): void {
    if (this.#timer !== undefined) return;
    const dueAt = this.#now() + LOOK_EVERY_MS;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      if (this.#readings.size === 0) return;
      const now = this.#now();
      // Late, this thread was computing, and what has come meanwhile is yet to be heard of.
      if (now - dueAt < LOOK_EVERY_MS) this.#judge(now);
      this.#look();
    }, LOOK_EVERY_MS).unref();
  }

  #judge(now: number): void {
    const first = Math.min(...[...this.#readings].map(({ began }) => began));
    if (now - Math.max(first, this.#answeredAt) >= SILENCE_MS) this.#isDown = true;
    if (this.#isDown) this.#onSilence();
  }
}
