/**
 * Second moments of a layer's inputs, against the inputs themselves.
 */
import { join } from 'node:path';
import { LayerWalk, openCheckpoint } from '@signpost/engine';
import { expect, it } from 'vitest';
import { sequences } from './fixtures.ts';
import { importanceOf } from './importance.ts';
import { CalibrationWalk } from './statistics.ts';

const MERGE = join(import.meta.dirname, '../../../test/golden/merge');
const at = (values: ArrayLike<number>, index: number) => values[index] ?? Number.NaN;

it('weights tokens by layer, and for keys and values as far as those are read', async () => {
  const [base, tuned] = [await openCheckpoint(join(MERGE, 'base')), await openCheckpoint(join(MERGE, 'a'))];
  const all = sequences(3, base).sequences.map((sequence, s) => ({ ...sequence, answerStart: s % 20 }));
  const { weights, metric } = await importanceOf(tuned, all);
  const plain = new LayerWalk(
    base,
    all.map(({ tokens }) => tokens),
  );
  const calibrated = new CalibrationWalk(base, tuned, { sequences: all, weights, metric });
  const halts = plain.stages();
  const compared: string[] = [];
  for await (const stage of calibrated.stages()) {
    const halt = (await halts.next()).value;
    if (halt === undefined) throw new Error('fewer halts');
    const inputs: number[] = [];
    for await (const { input } of halt.inputs()) for (const value of input) inputs.push(value);
    const { own, read } = weights[halt.layer] ?? {};
    for (const stem of stage.stems) {
      const { n, moment } = await stage.statistics(stem);
      const shares = (/[kv]_proj/.test(stem) ? read : own) ?? new Float32Array();
      const element = (j: number, k: number) =>
        shares.reduce((sum, share, token) => sum + share * at(inputs, token * n + j) * at(inputs, token * n + k), 0);
      let trace = 0;
      for (let k = 0; k < n; k++) trace += element(k, k);
      const size = trace / n;
      for (const [j, k] of [
        [0, 1],
        [n - 1, 2],
        [3, 3],
      ] as const) {
        const want = element(j, k) + (j === k ? 0.005 * size : 0);
        expect(Math.abs(at(moment, j * n + k) - want), stem).toBeLessThan(1e-3 * size);
      }
      compared.push(stem);
    }
  }
  expect(compared.length).toBe(7 * base.config.layers);
  plain.close();
  calibrated.close();
});
