/** Whether the string that ended an answer is part of it. */
export type StopString = 'kept' | 'dropped';

/**
 * Stop strings in a stream of text: the answer ends before the one that is complete first (of several the longest), or with it, wherever the pieces
 * are cut.
 */
export class StopFilter {
  readonly #stops: readonly string[];
  readonly #stopString: StopString;
  /** Text that may be the beginning of a stop string. */
  #held = '';
  #isStopped = false;

  constructor(stops: readonly string[], stopString: StopString) {
    this.#stops = stops;
    this.#stopString = stopString;
  }

  get isStopped(): boolean {
    return this.#isStopped;
  }

  /** Text that is certainly part of the answer now that `text` has arrived. */
  push(text: string): string {
    if (this.#isStopped) return '';
    const whole = this.#held + text;
    const found = this.#stops
      .map((stop) => ({ start: whole.indexOf(stop), length: stop.length }))
      .filter(({ start }) => start !== -1);
    const [first] = found.sort((a, b) => a.start + a.length - b.start - b.length || a.start - b.start);
    if (first !== undefined) {
      this.#isStopped = true;
      this.#held = '';
      return whole.slice(0, this.#stopString === 'kept' ? first.start + first.length : first.start);
    }
    const held = Math.max(0, ...this.#stops.map((stop) => overlap(whole, stop)));
    this.#held = whole.slice(whole.length - held);
    return whole.slice(0, whole.length - held);
  }

  /** What was held back, at the end of an answer that no stop string ended. */
  flush(): string {
    const rest = this.#held;
    this.#held = '';
    return rest;
  }
}

/** Length of the longest end of `text` that begins `stop`. */
function overlap(text: string, stop: string): number {
  for (let length = Math.min(text.length, stop.length - 1); length > 0; length--) {
    if (stop.startsWith(text.slice(text.length - length))) return length;
  }
  return 0;
}
