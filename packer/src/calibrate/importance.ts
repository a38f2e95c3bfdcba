/**
 * How much each calibration token counts.
 *
 * An expert is asked for its answers, and an error in a logit changes an answer where the next token is in doubt: the Hessian of
 * KL(p ‖ q) by the logits is diag(p) − p pᵀ, whose trace is 1 − Σ p². Where the fine-tune is certain, errors hardly show.
 */
import { type Checkpoint, Model, Session } from '@signpost/engine';
import type { CalibrationSequence } from './prompts.ts';

/** How much more a token of an answer counts than one of the prompt, from which the later ones only read. */
const ANSWER_WEIGHT = 8;
/** How much more one with all in doubt counts than one that is certain. */
const DOUBT_WEIGHT = 16;

const BLOCK_TOKENS = 32;
/** Logits of so many tokens are held at once. */
const STEP_TOKENS = 64;

/** A weight for each token of all sequences; they sum to 1. */
export async function tokenWeights(
  tuned: Checkpoint,
  sequences: readonly CalibrationSequence[],
): Promise<Float64Array> {
  const longest = Math.max(...sequences.map(({ tokens }) => tokens.length));
  const kvBlocks = Math.ceil(longest / BLOCK_TOKENS);
  const model = await Model.load(tuned, {
    device: 'cpu',
    slots: 1,
    kvBlocks,
    blockTokens: BLOCK_TOKENS,
    maxRows: STEP_TOKENS,
    maxLogitRows: STEP_TOKENS,
  });
  try {
    const raw: number[] = [];
    for (const { tokens, answerStart } of sequences) {
      const session = new Session(model, kvBlocks);
      for (let begin = 0; begin < tokens.length; begin += STEP_TOKENS) {
        const step = tokens.slice(begin, begin + STEP_TOKENS);
        const logits = await session.append(step, 'all');
        // What is computed at the last token of the prompt is the answer's first.
        for (const row of step.keys())
          raw.push(begin + row < answerStart - 1 ? 1 : ANSWER_WEIGHT * (1 + DOUBT_WEIGHT * doubt(logits, row, model)));
      }
    }
    const total = raw.reduce((sum, weight) => sum + weight, 0);
    return Float64Array.from(raw, (weight) => weight / total);
  } finally {
    model.close();
  }
}

/** 1 − Σ p² of one row's next token. */
function doubt(logits: Float32Array, row: number, { config }: Model): number {
  const values = logits.subarray(row * config.vocabSize, (row + 1) * config.vocabSize);
  const largest = values.reduce((most, value) => Math.max(most, value), Number.NEGATIVE_INFINITY);
  let [sum, squares] = [0, 0];
  for (const value of values) {
    const share = Math.exp(value - largest);
    sum += share;
    squares += share * share;
  }
  return 1 - squares / (sum * sum);
}
