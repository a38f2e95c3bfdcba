/**
 * How fast prompts are computed, of late: what the edge reckons queues with.
 */
import type { StepStats } from './protocol.ts';

/** Prompt tokens after which a step counts half. */
const HALF_LIFE_TOKENS = 1_024;

export class PrefillRate {
  #tokens = 0;
  #seconds = 0;

  /**
   * A step's time is shared by its rows: a short prompt beside many answers isn't why the step took long. It counts by its tokens, since a queue is computed in full steps,
   * at their rate.
   */
  add({
    prefillTokens,
    decodeTokens,
    durationMs,
  }: Pick<StepStats, 'prefillTokens' | 'decodeTokens' | 'durationMs'>): void {
    if (prefillTokens === 0) return;
    const memory = 0.5 ** (prefillTokens / HALF_LIFE_TOKENS);
    const seconds = (durationMs / 1_000) * (prefillTokens / (prefillTokens + decodeTokens));
    this.#tokens = this.#tokens * memory + prefillTokens;
    this.#seconds = this.#seconds * memory + seconds;
  }

  /** Null before the first. */
  get tokensPerSecond(): number | null {
    return this.#seconds === 0 ? null : this.#tokens / this.#seconds;
  }
}
