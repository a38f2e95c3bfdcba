/**
 * An app that wants one model alone, and asks for it again as soon as it has its answer.
 */
import type { Outcome, Question, Traffic } from './traffic.ts';

export interface FanOptions {
  readonly model: string;
  readonly question: Question;
  /** What it allows for each answer. */
  readonly timeoutMs: number;
}

export class Fan {
  readonly model: string;
  answered = 0;
  /** What came in place of answers. */
  readonly others: (Outcome | undefined)[] = [];
  longestMs = 0;
  readonly #end: Promise<void>;
  #isRunning = true;

  constructor(traffic: Traffic, options: FanOptions) {
    this.model = options.model;
    this.#end = this.#ask(traffic, options);
  }

  /** Counts anew. */
  forget(): void {
    this.answered = 0;
    this.longestMs = 0;
  }

  /** Waits for the last answer. */
  async stop(): Promise<void> {
    this.#isRunning = false;
    await this.#end;
  }

  async #ask(traffic: Traffic, options: FanOptions): Promise<void> {
    while (this.#isRunning) {
      const asked = performance.now();
      const outcome = await traffic.check({ ...options, stream: true });
      this.longestMs = Math.max(this.longestMs, Math.round(performance.now() - asked));
      if (outcome?.kind === 'answered') this.answered++;
      else this.others.push(outcome);
    }
  }
}
