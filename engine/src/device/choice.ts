/**
 * How a device that chooses tokens itself is told to: what sampling/sampler.ts does on the host, as plain data.
 */
import type { TokenScore } from '../sampling/logprobs.ts';
import type { SamplingParams } from '../sampling/params.ts';

/** How one row's next token is chosen, and those after it: what is chosen counts towards the penalties of the next. */
export interface TokenChoice {
  readonly params: SamplingParams;
  /** Of the token in its answer. */
  readonly place: number;
  /** At most one a token. */
  readonly edits: readonly LogitEdit[];
  /** Log-probability of the token, and of so many likeliest ones in its place, at most `MOST_ALTERNATIVES`; undefined for none. */
  readonly alternatives: number | undefined;
}

/** What happens to one token's logit before it is chosen from. */
export interface LogitEdit {
  readonly id: number;
  readonly bias: number;
  /** How often it stands in the answer so far. */
  readonly count: number;
  /** Whether it stands in the prompt or the answer. */
  readonly isSeen: boolean;
  /** Whether it ends the answer: it can't before `minTokens`. */
  readonly isStop: boolean;
}

export interface ChosenToken {
  readonly token: number;
  readonly score?: TokenScore;
}

/** Tokens of a row that may be chosen before any is read back. */
export const MOST_STEPS = 32;

/** As many as the API lets a request ask for. */
export const MOST_ALTERNATIVES = 20;

/** Tokens of a row that a request may have something done to beside those of its text, as the API has it: 4,096 biases, and stop tokens. */
export const MOST_ASKED_EDITS = 4_096 + 128;
