/**
 * What an error costs, against both models' answers written out.
 */
import { join } from 'node:path';
import { openCheckpoint } from '@signpost/engine';
import { noise } from '@signpost/kernels/testing';
import { expect, it } from 'vitest';
import { sequences } from './fixtures.ts';
import { divergence, nextShares } from './next-token.ts';
import { ErrorProbe } from './probe.ts';

const GOLDEN = join(import.meta.dirname, '../../../test/golden/merge/base');
const STEM = 'model.layers.0.self_attn.v_proj';

it('is the KL of two next tokens', () => {
  const next = noise(5);
  const [p, q] = [0, 1].map(() => Float32Array.from({ length: 50 }, () => 3 * next()));
  if (p === undefined || q === undefined) throw new Error('no logits');
  const [ours, theirs] = [nextShares(p), nextShares(q)];
  const want = ours.reduce((sum, share, token) => sum + share * Math.log(share / (theirs[token] ?? 0)), 0);
  expect(divergence(p, q)).toBeCloseTo(want, 5);
  expect(divergence(p, p)).toBeCloseTo(0, 9);
});

it('costs nothing to have no error, and four times as much to have twice the error', async () => {
  const tuned = await openCheckpoint(GOLDEN);
  const probe = await ErrorProbe.of(tuned, sequences(1, tuned).sequences, 14);
  const { out, inDim } = { out: tuned.config.kvHeads * tuned.config.headDim, inDim: tuned.config.hidden };
  const next = noise(7);
  const error = Float32Array.from({ length: out * inDim }, () => 0.01 * next());
  const [none, once, twice] = [0, 1, 2].map((times) =>
    probe.cost(
      STEM,
      error.map((value) => times * value),
    ),
  );
  expect(await none).toBe(0);
  expect(await once).toBeGreaterThan(0);
  expect(((await twice) ?? 0) / ((await once) ?? 0)).toBeCloseTo(4, 0);
});

it('costs nothing where nothing is answered', async () => {
  const tuned = await openCheckpoint(GOLDEN);
  const probe = await ErrorProbe.of(tuned, [{ tokens: [1, 2, 3], answerStart: 3 }], 1);
  expect(
    await probe.cost(STEM, new Float32Array(tuned.config.kvHeads * tuned.config.headDim * tuned.config.hidden).fill(1)),
  ).toBe(0);
});
