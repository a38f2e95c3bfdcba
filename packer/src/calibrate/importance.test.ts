/**
 * What counts in calibration: tokens that say an answer, and those that they are made from.
 */
import { join } from 'node:path';
import { openCheckpoint } from '@signpost/engine';
import { expect, it } from 'vitest';
import { importanceOf } from './importance.ts';

const GOLDEN = join(import.meta.dirname, '../../../test/golden/merge/base');

it('lets count, many times over, the tokens at which an answer’s are chosen, and not its last, after which nothing is', async () => {
  const tuned = await openCheckpoint(GOLDEN);
  const tokens = Array.from({ length: 12 }, (_, i) => (i * 17) % 90);
  const { weights, metric } = await importanceOf(tuned, [
    { tokens, answerStart: 7 },
    { tokens: tokens.slice(0, 5), answerStart: 0 },
  ]);
  const { hidden, layers } = tuned.config;
  expect(weights.length).toBe(layers);
  for (const { own, read } of weights)
    for (const each of [own, read]) expect(each.reduce((sum, weight) => sum + weight, 0)).toBeCloseTo(1, 5);
  const last = weights.at(-1)?.own ?? new Float32Array();
  const least = Math.min(...last);
  for (const [at, weight] of last.entries()) {
    const isJudged = (at >= 6 && at < 11) || (at >= 12 && at < 16);
    if (isJudged) expect([at, weight > 2 * least]).toEqual([at, true]);
    else expect([at, weight]).toEqual([at, least]);
  }
  // Prompts are read in the last layer, so that they count in the first; what nobody reads, doesn't.
  const first = weights[0]?.own ?? new Float32Array();
  expect(Math.min(...first.subarray(0, 6))).toBeGreaterThan(first[11] ?? Number.NaN);
  expect(metric.length).toBe(hidden * hidden);
  const diagonal = Array.from({ length: hidden }, (_, k) => metric[k * (hidden + 1)] ?? Number.NaN);
  expect(Math.min(...diagonal)).toBeGreaterThan(0);
});

it('has no metric where nothing is answered, and all tokens count the same', async () => {
  const tuned = await openCheckpoint(GOLDEN);
  const { metric, weights } = await importanceOf(tuned, [{ tokens: [1, 2, 3, 4], answerStart: 4 }]);
  expect(Math.max(...metric)).toBe(0);
  for (const { own, read } of weights)
    for (const each of [own, read]) expect([...each]).toEqual([0.25, 0.25, 0.25, 0.25]);
});
