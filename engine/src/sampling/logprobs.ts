/**
 * Log-probabilities: of the model's own distribution, before temperature, penalties and masks (vLLM's default, `raw_logprobs`; OpenAI's, too).
 */

import { softmaxWeights } from '@signpost/kernels';

/** What a token scored, and the likeliest ones in its place, the best first. */
export interface TokenScore {
  readonly logprob: number;
  readonly top: readonly { readonly id: number; readonly logprob: number }[];
}

/** Index of the largest value, the first of equals. */
export function argmax(values: Float32Array): number {
  let best = 0;
  let top = values[0] ?? Number.NEGATIVE_INFINITY;
  for (let i = 1; i < values.length; i++) {
    const value = values[i] ?? Number.NEGATIVE_INFINITY;
    if (value > top) {
      best = i;
      top = value;
    }
  }
  return best;
}

/** Natural logarithm of the probability that softmax gives token `id`. */
export function logProbability(logits: Float32Array /* (vocab) */, id: number): number {
  return (logits[id] ?? Number.NEGATIVE_INFINITY) - logSumExp(logits);
}

/** Scores `id` with `alternatives` likeliest tokens beside it (itself among them, where it is one). */
export function scoreToken(logits: Float32Array /* (vocab) */, id: number, alternatives: number): TokenScore {
  const normaliser = logSumExp(logits);
  const logprob = (logits[id] ?? Number.NEGATIVE_INFINITY) - normaliser;
  const top = likeliest(logits, alternatives).map((other) => ({
    id: other,
    logprob: (logits[other] ?? Number.NEGATIVE_INFINITY) - normaliser,
  }));
  return { logprob, top };
}

function logSumExp(logits: Float32Array): number {
  const top = logits[argmax(logits)] ?? 0;
  return top + Math.log(softmaxWeights(logits, top, 1, -Number.MAX_VALUE, logits.length));
}

/** The `count` largest, in order, by insertion: `count` is small. */
function likeliest(logits: Float32Array, count: number): number[] {
  const best: number[] = [];
  if (count === 0) return best;
  let least = Number.NEGATIVE_INFINITY;
  for (let id = 0; id < logits.length; id++) {
    const logit = logits[id] ?? Number.NEGATIVE_INFINITY;
    if (best.length === count && logit <= least) continue;
    let at = best.length;
    while (at > 0 && (logits[best[at - 1] ?? 0] ?? 0) < logit) at--;
    best.splice(at, 0, id);
    if (best.length > count) best.pop();
    least = logits[best.at(-1) ?? 0] ?? least;
  }
  return best;
}
