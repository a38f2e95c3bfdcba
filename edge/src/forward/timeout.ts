/**
 * A bound on waiting.
 */

export class TimeoutError extends Error {
  override readonly name = 'TimeoutError';
}

/** Tells whether it is in vain to wait any longer. */
export interface Watch {
  /** How often it is asked. */
  readonly everyMs: number;
  readonly isInVain: () => boolean;
  /** For the error. */
  readonly why: string;
}

/**
 * `promise`, or a rejection once `ms` have passed, or the `watch` says that it is in vain. The promise itself goes on: the caller ends what it stands for.
 *
 * @param what for the error: "<what> for 30000 ms".
 * @throws TimeoutError
 */
export function withTimeout<T>(promise: Promise<T>, ms: number, what: string, watch?: Watch): Promise<T> {
  return new Promise((resolve, reject) => {
    const until = Date.now() + ms;
    let timer: ReturnType<typeof setTimeout>;
    const wait = (leftMs: number) => {
      timer = setTimeout(look, watch === undefined ? leftMs : Math.min(leftMs, watch.everyMs));
    };
    const look = () => {
      const leftMs = until - Date.now();
      if (watch === undefined || leftMs <= 0) reject(new TimeoutError(`${what} for ${ms} ms`));
      else if (watch.isInVain()) reject(new TimeoutError(watch.why));
      else wait(leftMs);
    };
    wait(ms);
    promise.then(
      (value) => {
        clearTimeout(timer);
        resolve(value);
      },
      (error: unknown) => {
        clearTimeout(timer);
        reject(error);
      },
    );
  });
}

/** What `promise` comes to, or `otherwise` once `ms` have passed. @throws what it fails with in that time. */
export async function withinOr<T, U>(promise: Promise<T>, ms: number, otherwise: U): Promise<T | U> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const limit = new Promise<U>((resolve) => {
    timer = setTimeout(() => resolve(otherwise), ms);
  });
  try {
    return await Promise.race([promise, limit]);
  } finally {
    if (timer !== undefined) clearTimeout(timer);
  }
}

/**
 * Tells when a wait takes longer than `ms`, and again each `ms` while it goes on. One timer for all the waits of a stream: one each would cost more than what most of
 * them wait for.
 */
export class LongWaits {
  readonly #ms: number;
  readonly #tell: () => void;
  #since: number | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(ms: number, tell: () => void) {
    this.#ms = ms;
    this.#tell = tell;
  }

  begin(): void {
    this.#since = Date.now();
    if (this.#timer === undefined) this.#arm(this.#ms);
  }

  end(): void {
    this.#since = undefined;
  }

  /** No wait begins any more. */
  stop(): void {
    if (this.#timer !== undefined) clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#since = undefined;
  }

  #arm(ms: number): void {
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      if (this.#since === undefined) return;
      const left = this.#since + this.#ms - Date.now();
      this.#arm(left > 0 ? left : this.#ms);
      if (left > 0) return;
      this.#since = Date.now();
      this.#tell();
    }, ms);
  }
}
