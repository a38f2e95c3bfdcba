/**
 * How much each calibration token counts.
 *
 * An expert is asked for its answers, and an error in a logit changes an answer where the next token is in doubt: the Hessian of
 * KL(p ‖ q) by the logits is diag(p) − p pᵀ, whose trace is 1 − Σ p². Where the fine-tune is certain, errors hardly show.
 */
import { type Checkpoint, LayerWalk } from '@signpost/engine';
import type { CalibrationSequence } from './prompts.ts';

/** How much more a token of an answer counts than one of the prompt, from which the later ones only read. */
const ANSWER_WEIGHT = 8;
/** How much more one with all in doubt counts than one that is certain. */
const DOUBT_WEIGHT = 16;

/** A weight for each token of all sequences; they sum to 1. */
export async function tokenWeights(
  tuned: Checkpoint,
  sequences: readonly CalibrationSequence[],
): Promise<Float64Array> {
  // What is computed at the last token of the prompt is the answer's first.
  const isAnswer = sequences.flatMap(({ tokens, answerStart }) => tokens.map((_, at) => at >= answerStart - 1));
  const { vocabSize } = tuned.config;
  const walk = new LayerWalk(
    tuned,
    sequences.map(({ tokens }) => tokens),
  );
  try {
    const raw: number[] = [];
    for await (const logits of walk.logits())
      for (let at = 0; at < logits.length; at += vocabSize)
        raw.push(
          isAnswer[raw.length] === true
            ? ANSWER_WEIGHT * (1 + DOUBT_WEIGHT * doubt(logits.subarray(at, at + vocabSize)))
            : 1,
        );
    const total = raw.reduce((sum, weight) => sum + weight, 0);
    return Float64Array.from(raw, (weight) => weight / total);
  } finally {
    walk.close();
  }
}

/** 1 − Σ p² of the next token. */
function doubt(logits: Float32Array): number {
  const largest = logits.reduce((most, value) => Math.max(most, value), Number.NEGATIVE_INFINITY);
  let [sum, squares] = [0, 0];
  for (const value of logits) {
    const share = Math.exp(value - largest);
    sum += share;
    squares += share * share;
  }
  return 1 - squares / (sum * sum);
}
