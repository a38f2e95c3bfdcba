/**
 * Something read from elsewhere, as one isolate knows it: a copy that is renewed beside the request that finds it old. No request waits for that; an isolate's first
 * goes without (`current`), or waits (`known`).
 */
import { withinOr } from './forward/timeout.ts';

type WaitUntil = (promise: Promise<unknown>) => void;

export interface CachedOptions<T> {
  /** What it is, for the log. */
  readonly name: string;
  readonly maxAgeMs: number;
  /** Older than that it is not known any more; left out, it is known however old it is. */
  readonly forgetAfterMs?: number;
  readonly read: () => Promise<T>;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
  readonly log: (event: string, fields: Record<string, unknown>) => void;
}

/** A refresh that takes longer is taken for lost (its request may have been cancelled), and another one starts. */
const REFRESH_TIMEOUT_MS = 5_000;
const NEVER = Number.NEGATIVE_INFINITY;

/** Older than that, nobody may have looked for hours. */
const OLD_MS = 60_000;
/** A moment: many times what R2 takes nearby. */
const MAX_WAIT_MS = 300;

export class Cached<T> {
  readonly #options: CachedOptions<T>;
  #current: T | undefined;
  #readAt = NEVER;
  #refreshStartedAt = NEVER;
  #failedAt = NEVER;

  constructor(options: CachedOptions<T>) {
    this.#options = options;
  }

  /** @param waitUntil keeps a refresh running beyond the request. */
  current(waitUntil: WaitUntil): T | undefined {
    const { now, maxAgeMs } = this.#options;
    const at = now();
    if (at - this.#readAt >= maxAgeMs && at - this.#refreshStartedAt >= REFRESH_TIMEOUT_MS) {
      this.#refreshStartedAt = at;
      waitUntil(this.#refresh());
    }
    return this.#isForgotten(at) ? undefined : this.#current;
  }

  /** As `current`; undefined where it was read longer than `ms` ago, whatever it says. */
  lately(ms: number, waitUntil: WaitUntil): T | undefined {
    const current = this.current(waitUntil);
    return this.#options.now() - this.#readAt <= ms ? current : undefined;
  }

  /** As `current`; but where nothing is known, or only what is old, the request that finds it so waits a moment for what is new. */
  async recent(waitUntil: WaitUntil): Promise<T | undefined> {
    const { now } = this.#options;
    const isTried = Math.max(this.#refreshStartedAt, this.#failedAt) > now() - REFRESH_TIMEOUT_MS;
    if (now() - this.#readAt < OLD_MS || isTried) return this.current(waitUntil);
    this.#refreshStartedAt = now();
    const refresh = this.#refresh();
    waitUntil(refresh);
    await withinOr(refresh, MAX_WAIT_MS, undefined);
    return this.#isForgotten(now()) ? undefined : this.#current;
  }

  /** As `current`, but read first where nothing is known yet. @throws what that fails with. */
  async known(waitUntil: WaitUntil): Promise<T> {
    // Each for itself: what one request has begun another one can't wait for.
    if (this.#isForgotten(this.#options.now())) await this.#read();
    return this.current(waitUntil) as T;
  }

  #isForgotten(at: number): boolean {
    const { forgetAfterMs = Number.POSITIVE_INFINITY } = this.#options;
    return this.#readAt === NEVER || at - this.#readAt > forgetAfterMs;
  }

  async #read(): Promise<void> {
    this.#current = await this.#options.read();
    this.#readAt = this.#options.now();
  }

  /** Never rejects: what was known stays, and the next request tries again. */
  async #refresh(): Promise<void> {
    try {
      await this.#read();
    } catch (error) {
      const { name, log, now } = this.#options;
      this.#failedAt = now();
      log(`${name}_unreadable`, { reason: error instanceof Error ? error.message : String(error) });
    }
    this.#refreshStartedAt = NEVER;
  }
}
