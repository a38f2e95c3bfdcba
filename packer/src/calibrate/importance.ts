/**
 * How much each calibration token counts, and (stream-metric.ts) each direction of the residual stream.
 *
 * An expert is asked for its answers, and an error in a logit changes an answer where the next token is in doubt: the Hessian of
 * KL(p ‖ q) by the logits is diag(p) − p pᵀ, whose trace is 1 − Σ p². Where the fine-tune is certain, errors hardly show. Tokens before those count as far as
 * they are read (reach.ts).
 */
import { type Checkpoint, LayerWalk, type WalkStage } from '@signpost/engine';
import { choosesAnswer, nextShares } from './next-token.ts';
import type { CalibrationSequence } from './prompts.ts';
import { type LayerWeights, Reach } from './reach.ts';
import { StreamMetric } from './stream-metric.ts';

/** How much more a token with all in doubt counts than one that is certain. */
const DOUBT_WEIGHT = 16;

export interface Importance {
  /** Of the tokens, by layer. */
  readonly weights: readonly LayerWeights[];
  /** G, see StreamMetric. */
  readonly metric: Float32Array; // (hidden, hidden)
}

export async function importanceOf(tuned: Checkpoint, sequences: readonly CalibrationSequence[]): Promise<Importance> {
  const isAnswer = choosesAnswer(sequences);
  const { vocabSize, hidden } = tuned.config;
  const [metric, reach] = [StreamMetric.of(tuned), new Reach(tuned.config)];
  const walk = new LayerWalk(
    tuned,
    sequences.map(({ tokens }) => tokens),
  );
  try {
    const ends = new Float64Array(isAnswer.length);
    let at = 0;
    const lookAbout = async ({ attention }: WalkStage) => {
      if (attention !== undefined) await reach.add(attention());
    };
    for await (const { logits, stream } of walk.ends(lookAbout))
      for (let token = 0; token * vocabSize < logits.length; token++, at++) {
        if (isAnswer[at] !== true) continue;
        const next = nextShares(logits.subarray(token * vocabSize, (token + 1) * vocabSize));
        metric.add(next, stream.subarray(token * hidden, (token + 1) * hidden));
        ends[at] = 1 + DOUBT_WEIGHT * doubt(next);
      }
    return { weights: reach.weights(ends), metric: metric.finish() };
  } finally {
    walk.close();
  }
}

/** 1 − Σ p² of the next token. */
function doubt(next: Float32Array): number {
  let squares = 0;
  for (const share of next) squares += share * share;
  return 1 - squares;
}
