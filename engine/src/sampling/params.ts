/**
 * How the next token is chosen from its logits: plain data, as it crosses threads.
 */
export interface SamplingParams {
  /** 0 takes the likeliest token. */
  readonly temperature: number;
  /** Only the smallest set of likeliest tokens whose probabilities reach this is drawn from. */
  readonly topP: number;
  /** Only this many likeliest tokens are drawn from; 0 is all. */
  readonly topK: number;
  /** Only tokens at least this share as probable as the likeliest one are drawn from. */
  readonly minP: number;
  /** Above 1 makes tokens of prompt and answer less likely (Keskar et al. 2019, arXiv 1909.05858, section 4.1). */
  readonly repetitionPenalty: number;
  /** Taken off the logit of every token of the answer. */
  readonly presencePenalty: number;
  /** Taken off the logit of a token for each time it stands in the answer. */
  readonly frequencyPenalty: number;
  /** Added to the logits of these tokens. */
  readonly logitBias: readonly (readonly [id: number, bias: number])[];
  /** The same seed draws the same tokens from the same logits. */
  readonly seed: number;
  /** Tells apart the answers that share a seed (`n`). */
  readonly choice: number;
  /** Tokens before which the answer can't be ended by a stop token. */
  readonly minTokens: number;
}

const DEFAULTS: SamplingParams = {
  temperature: 1,
  topP: 1,
  topK: 0,
  minP: 0,
  repetitionPenalty: 1,
  presencePenalty: 0,
  frequencyPenalty: 0,
  logitBias: [],
  seed: 0,
  choice: 0,
  minTokens: 0,
};

/** Parameters that change nothing where they aren't given: draws from the model's own distribution. */
export function samplingParams(given: Partial<SamplingParams>): SamplingParams {
  return { ...DEFAULTS, ...given };
}
