/**
 * What an answer is for beside the app that waits for it: to be kept, or compared. Where it is for nothing else it passes unread.
 */
import type { Outcome } from '../forward/outcome.ts';
import { type AnswerText, readingOff } from './answer-text.ts';

/** @param answer undefined where it isn't one text, or not whole. Never rejects. */
export type AnswerUse = (answer: AnswerText | undefined, outcome: Outcome) => Promise<void>;

export class AnswerUses {
  readonly #uses: readonly AnswerUse[];
  readonly #outcome: Promise<Outcome>;
  #tell: (outcome: Outcome) => void = () => {};

  constructor(uses: readonly (AnswerUse | undefined)[]) {
    this.#uses = uses.filter((use) => use !== undefined);
    this.#outcome = new Promise((resolve) => {
      this.#tell = resolve;
    });
  }

  readonly ends = (outcome: Outcome): void => this.#tell(outcome);

  /** The response, as it goes to the app. @param waitUntil keeps the uses running when it has gone */
  of(response: Response, waitUntil: (promise: Promise<unknown>) => void): Response {
    if (this.#uses.length === 0) return response;
    const read = readingOff(response);
    waitUntil(
      Promise.all([read.answer, this.#outcome]).then(([answer, outcome]) =>
        Promise.all(this.#uses.map((use) => use(answer, outcome))),
      ),
    );
    return read.response;
  }
}
