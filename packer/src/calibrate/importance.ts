/**
 * How much each calibration token counts, and (stream-metric.ts) each direction of the residual stream.
 *
 * An expert is asked for its answers, and an error in a logit changes an answer where the next token is in doubt: the Hessian of
 * KL(p ‖ q) by the logits is diag(p) − p pᵀ, whose trace is 1 − Σ p². Where the fine-tune is certain, errors hardly show.
 */
import { type Checkpoint, LayerWalk } from '@signpost/engine';
import type { CalibrationSequence } from './prompts.ts';
import { StreamMetric } from './stream-metric.ts';

/** How much more a token of an answer counts than one of the prompt, from which the later ones only read. */
const ANSWER_WEIGHT = 8;
/** How much more one with all in doubt counts than one that is certain. */
const DOUBT_WEIGHT = 16;

export interface Importance {
  /** Of all tokens; they sum to 1. */
  readonly weights: Float64Array;
  /** G, see StreamMetric. */
  readonly metric: Float32Array; // (hidden, hidden)
}

export async function importanceOf(tuned: Checkpoint, sequences: readonly CalibrationSequence[]): Promise<Importance> {
  // What is computed at the last token of the prompt is the answer's first; at the answer's last, which ends it, nothing that anyone sees.
  const isAnswer = sequences.flatMap(({ tokens, answerStart }) =>
    tokens.map((_, at) => at >= answerStart - 1 && at < tokens.length - 1),
  );
  const { vocabSize, hidden } = tuned.config;
  const metric = StreamMetric.of(tuned);
  const walk = new LayerWalk(
    tuned,
    sequences.map(({ tokens }) => tokens),
  );
  try {
    const raw: number[] = [];
    for await (const { logits, stream } of walk.ends())
      for (let token = 0; token * vocabSize < logits.length; token++) {
        if (isAnswer[raw.length] !== true) {
          raw.push(1);
          continue;
        }
        const next = shares(logits.subarray(token * vocabSize, (token + 1) * vocabSize));
        metric.add(next, stream.subarray(token * hidden, (token + 1) * hidden));
        raw.push(ANSWER_WEIGHT * (1 + DOUBT_WEIGHT * doubt(next)));
      }
    const total = raw.reduce((sum, weight) => sum + weight, 0);
    return { weights: Float64Array.from(raw, (weight) => weight / total), metric: metric.finish() };
  } finally {
    walk.close();
  }
}

/** The softmax. */
function shares(logits: Float32Array): Float32Array {
  const next = new Float32Array(logits.length);
  let [largest, total] = [Number.NEGATIVE_INFINITY, 0];
  for (const value of logits) largest = Math.max(largest, value);
  for (let token = 0; token < next.length; token++) {
    const share = Math.exp((logits[token] ?? 0) - largest);
    next[token] = share;
    total += share;
  }
  for (let token = 0; token < next.length; token++) next[token] = (next[token] ?? 0) / total;
  return next;
}

/** 1 − Σ p² of the next token. */
function doubt(next: Float32Array): number {
  let squares = 0;
  for (const share of next) squares += share * share;
  return 1 - squares;
}
