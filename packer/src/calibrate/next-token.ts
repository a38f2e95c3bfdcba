/**
 * The tokens that answers are made of, and how sure a model is of them.
 */
import type { CalibrationSequence } from './prompts.ts';

/**
 * Of all tokens, whether an answer's token is chosen after it. What is computed at the last token of the prompt is the answer's first; at the answer's last,
 * which ends it, nothing that anyone sees.
 */
export function choosesAnswer(sequences: readonly CalibrationSequence[]): boolean[] {
  return sequences.flatMap(({ tokens, answerStart }) =>
    tokens.map((_, at) => at >= answerStart - 1 && at < tokens.length - 1),
  );
}

/** The softmax. */
export function nextShares(logits: Float32Array): Float32Array {
  const next = new Float32Array(logits.length);
  const whole = logSum(logits);
  for (let token = 0; token < next.length; token++) next[token] = Math.exp((logits[token] ?? 0) - whole);
  return next;
}

/** KL(p ‖ q) of the next tokens that two rows of logits stand for, in nats. */
export function divergence(p: Float32Array, q: Float32Array): number {
  const whole = logSum(p);
  let sum = logSum(q) - whole;
  for (let token = 0; token < p.length; token++) {
    const share = Math.exp((p[token] ?? 0) - whole);
    sum += share * ((p[token] ?? 0) - (q[token] ?? 0));
  }
  return sum;
}

/** log Σ eˣ */
function logSum(logits: Float32Array): number {
  let [largest, total] = [Number.NEGATIVE_INFINITY, 0];
  for (const value of logits) largest = Math.max(largest, value);
  for (const value of logits) total += Math.exp(value - largest);
  return largest + Math.log(total);
}
