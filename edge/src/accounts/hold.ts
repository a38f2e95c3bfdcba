/**
 * Keeps a request's context alive until its end is told, though its app may have left: what is under way for the app ends with the context, and so would its account.
 *
 * Of a stream that has begun only while something passes. workerd doesn't always notice an app that leaves between two writes, neither by `request.signal` nor by the
 * stream; it then lets go of a context that nothing holds, and the region's work ends with it. A context that is held would go on until the next write.
 */

/** Longer silences are not held: many times what lies between two tokens. */
const SILENCE_MS = 250;

export class Hold {
  readonly #waitUntil: (promise: Promise<unknown>) => void;
  #release: ((last?: Promise<unknown>) => void) | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #hasBegun = false;
  #hasPassed = false;
  #hasEnded = false;

  constructor(waitUntil: (promise: Promise<unknown>) => void) {
    this.#waitUntil = waitUntil;
    this.#take();
  }

  /** The response is on its way. */
  begins(): void {
    this.#hasBegun = true;
    this.passes();
  }

  /** A piece of it has passed. */
  passes(): void {
    this.#hasPassed = true;
    if (!this.#hasBegun || this.#hasEnded || this.#timer !== undefined) return;
    if (this.#release === undefined) this.#take();
    this.#watch();
  }

  /** @param last what is still to be done */
  ends(last: Promise<unknown> | undefined): void {
    this.#hasEnded = true;
    if (this.#timer !== undefined) clearTimeout(this.#timer);
    if (this.#release !== undefined) this.#release(last);
    else if (last !== undefined) this.#waitUntil(last);
  }

  #take(): void {
    this.#waitUntil(
      new Promise<unknown>((resolve) => {
        this.#release = resolve;
      }),
    );
  }

  #watch(): void {
    this.#hasPassed = false;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      if (this.#hasPassed) return this.#watch();
      this.#release?.();
      this.#release = undefined;
    }, SILENCE_MS);
  }
}
