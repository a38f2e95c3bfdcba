/**
 * What counts in calibration: tokens that say an answer.
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
  expect(weights.reduce((sum, weight) => sum + weight, 0)).toBeCloseTo(1, 9);
  const [least = 0] = weights;
  const shares = Array.from(weights, (weight) => weight / least);
  for (const [at, share] of shares.entries()) {
    const isJudged = (at >= 6 && at < 11) || (at >= 12 && at < 16);
    if (isJudged) expect([at, share > 8]).toEqual([at, true]);
    else expect([at, share]).toEqual([at, 1]);
  }
  const { hidden } = tuned.config;
  expect(metric.length).toBe(hidden * hidden);
  const diagonal = Array.from({ length: hidden }, (_, k) => metric[k * (hidden + 1)] ?? Number.NaN);
  expect(Math.min(...diagonal)).toBeGreaterThan(0);
});

it('has no metric where nothing is answered', async () => {
  const tuned = await openCheckpoint(GOLDEN);
  const { metric } = await importanceOf(tuned, [{ tokens: [1, 2, 3], answerStart: 3 }]);
  expect(Math.max(...metric)).toBe(0);
});
