/**
 * Log-probabilities of a prompt's own tokens, from the logits of the rows before them.
 */
import { scoreToken, type TokenScore } from '@signpost/engine';
import type { Chunk } from '../schedule/step-budget.ts';
import type { GenerationRequest } from './protocol.ts';

/** Scores, not sent before, of the prompt tokens that the rows `start` … predict; the first token, which nothing predicts, has null. */
export function scorePrompt(
  { prompt, logprobs = 0 }: GenerationRequest,
  { sequence: { scored }, start, count }: Chunk,
  logits: Float32Array,
  width: number,
): (TokenScore | null)[] {
  const scores: (TokenScore | null)[] = scored === 0 ? [null] : [];
  for (let i = 0; i < count; i++) {
    const position = start + i + 1;
    const token = prompt[position];
    if (token === undefined || position < scored) continue;
    scores.push(scoreToken(logits.subarray(i * width, (i + 1) * width), token, logprobs));
  }
  return scores;
}
