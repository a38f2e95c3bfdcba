/**
 * What an answer is for beside the app that waits for it: to be kept, or compared. Where it is for nothing else it passes unread.
 */
import type { Outcome } from '../forward/outcome.ts';
import { AnswerReader, type AnswerText } from './answer-text.ts';

/** @param answer undefined where it isn't one text, or not whole. Never rejects. */
export type AnswerUse = (answer: AnswerText | undefined, outcome: Outcome) => Promise<void>;

export class AnswerUses {
  readonly #uses: readonly AnswerUse[];
  readonly #reader = new AnswerReader();

  constructor(uses: readonly (AnswerUse | undefined)[]) {
    this.#uses = uses.filter((use) => use !== undefined);
  }

  /** To be told what goes to the app; undefined where nobody wants to know. */
  get onData(): ((data: string) => void) | undefined {
    return this.#uses.length === 0 ? undefined : (data) => this.#reader.add(data);
  }

  /** @param waitUntil keeps the uses running when the app has its answer */
  ends(outcome: Outcome, waitUntil: (promise: Promise<unknown>) => void): void {
    if (this.#uses.length === 0) return;
    const answer = outcome.ending === 'whole' ? this.#reader.answer : undefined;
    waitUntil(Promise.all(this.#uses.map((use) => use(answer, outcome))));
  }
}
