/**
 * The least of the values of the last while, however many they are: those that a later and lesser one has made pointless are forgotten at once (the ascending
 * minima of Tarjan's and Harter's sliding window).
 */
interface Value {
  readonly at: number;
  readonly value: number;
}

/** Values within so long of each other that ascend count as one, at the first's time: so a window keeps a bounded number. */
const STEP_MS = 1_000;

export class WindowLeast {
  readonly #windowMs: number;
  /** Ascending in both. */
  readonly #values: Value[] = [];

  constructor(windowMs: number) {
    this.#windowMs = windowMs;
  }

  add(value: number, now: number): void {
    let last = this.#values.at(-1);
    while (last !== undefined && last.value >= value) {
      this.#values.pop();
      last = this.#values.at(-1);
    }
    if (last === undefined || now - last.at >= STEP_MS) this.#values.push({ at: now, value });
  }

  /** Undefined where there is none so new. */
  least(now: number): number | undefined {
    while (this.#values[0] !== undefined && now - this.#values[0].at >= this.#windowMs) this.#values.shift();
    return this.#values[0]?.value;
  }
}
