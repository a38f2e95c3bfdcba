/**
 * An answer's text as its tokens arrive: whole characters only, and nothing of a stop string. A function of the tokens alone, so that an answer
 * that is resumed goes on with what was held back.
 */
import type { StreamDecoder } from '@signpost/engine';
import { StopFilter, type StopString } from './stop-filter.ts';

export interface TextOptions {
  readonly stops: readonly string[];
  readonly stopString: StopString;
  /** Tokens before which no stop string ends the answer. */
  readonly minTokens: number;
}

export class AnswerText {
  readonly #decoder: StreamDecoder;
  readonly #filter: StopFilter;
  readonly #minTokens: number;
  #tokens = 0;

  constructor(decoder: StreamDecoder, { stops, stopString, minTokens }: TextOptions) {
    this.#decoder = decoder;
    this.#filter = new StopFilter(stops, stopString);
    this.#minTokens = minTokens;
  }

  /** Whether a stop string has ended the answer. */
  get isStopped(): boolean {
    return this.#filter.isStopped;
  }

  /** Text that became certain with this token. */
  push(token: number): string {
    const text = this.#decoder.push(token);
    return ++this.#tokens <= this.#minTokens ? text : this.#filter.push(text);
  }

  /** What was held back, at the end. */
  end(): string {
    const last = this.#filter.push(this.#decoder.flush());
    return last + this.#filter.flush();
  }
}
