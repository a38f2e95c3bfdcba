/**
 * Rows that make up for each other's errors, against what those cost together: Σ_ik G_ik e_iᵀ H e_k, written out.
 */
import { factorMoment } from '@signpost/kernels';
import { noise } from '@signpost/kernels/testing';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Plane } from '../pack/difference.ts';
import { columnScales, RIDGE } from './column-scales.ts';
import { MatrixFit } from './fit.ts';
import { expectLeast } from './fixtures.ts';
import { addPlane } from './plane.ts';
import { makeUpForRows, rowFeedback } from './row-feedback.ts';

const at = (values: ArrayLike<number>, index: number) => values[index] ?? Number.NaN;

const shape = fc.record({
  seed: fc.integer({ min: 1, max: 2 ** 30 }),
  out: fc.integer({ min: 2, max: 20 }),
  n: fc.integer({ min: 2, max: 34 }),
});

/** Σ_row x xᵀ of some rows, and something on the diagonal. */
function momentOf(next: () => number, n: number, rows: number, diagonal: number): Float32Array {
  const x = Array.from({ length: rows }, () => Array.from({ length: n }, next));
  return Float32Array.from({ length: n * n }, (_, k) =>
    x.reduce((sum, row) => sum + at(row, Math.floor(k / n)) * at(row, k % n), k % (n + 1) === 0 ? diagonal : 0),
  );
}

function problem({ seed, out, n }: { seed: number; out: number; n: number }) {
  const next = noise(seed);
  const target = Float32Array.from({ length: out * n }, next);
  const moment = momentOf(next, n, 2 * n, 0.1);
  const factor = moment.slice();
  factorMoment(factor, n);
  // Few directions of the outputs matter.
  const feedback = rowFeedback(momentOf(next, out, Math.ceil(out / 4), 0), 0.05);
  if (feedback === undefined) throw new Error(`no feedback for seed ${seed}`);
  const input = { n, moment, factor, cross: new Float32Array(n * n), drift: undefined };
  return { target, input, feedback };
}

function costOf(errors: Float32Array, metric: Float32Array, moment: Float32Array, n: number): number {
  const out = errors.length / n;
  const weighted = Array.from({ length: out * n }, (_, at_) => {
    const [i, j] = [Math.floor(at_ / n), at_ % n];
    let sum = 0;
    for (let k = 0; k < n; k++) sum += at(errors, i * n + k) * at(moment, k * n + j);
    return sum;
  });
  let total = 0;
  for (let i = 0; i < out; i++)
    for (let k = 0; k < out; k++)
      for (let j = 0; j < n; j++) total += at(metric, i * out + k) * at(weighted, i * n + j) * at(errors, k * n + j);
  return total;
}

describe('rows that make up for each other', () => {
  it('only ever lessen what their errors cost together, once all are there', () => {
    fc.assert(
      fc.property(shape, (of) => {
        const { target, input, feedback } = problem(of);
        const next = noise(of.seed + 1);
        const words = Math.ceil(of.n / 32);
        const plane: Plane = {
          signs: Uint32Array.from({ length: of.out * words }, () => (next() * 2 ** 31) >>> 0),
          rowScale: Float32Array.from({ length: of.out }, () => Math.abs(next()) + 0.01),
        };
        const cost = (of_: Plane) => costOf(addPlane(target, of_, of.n, -1), feedback.metric, input.moment, of.n);
        const before = cost(plane);
        const once = makeUpForRows(input, target, plane, feedback, ['all']);
        expect(cost(once)).toBeLessThanOrEqual(before * (1 + 1e-4));
        const twice = makeUpForRows(input, target, once, feedback, ['all']);
        expect(cost(twice)).toBeLessThanOrEqual(cost(once) * (1 + 1e-4));
      }),
      { numRuns: 40 },
    );
  });

  it.each(['row', 'row-col'] as const)(
    'cost far less than rows by themselves where few directions matter (%s)',
    (scale) => {
      let [alone, together] = [0, 0];
      for (let seed = 1; seed <= 6; seed++) {
        const of = { seed: seed * 7919, out: 48, n: 40 };
        const { target, input, feedback } = problem(of);
        const matrix = { out: of.out, tuned: new Float32Array(of.out * of.n), difference: target };
        const cost = (fit: MatrixFit) => {
          const left = fit
            .fit(matrix, 1)
            .reduce((rest: Float32Array, plane) => addPlane(rest, plane, of.n, -1), target);
          return costOf(left, feedback.metric, input.moment, of.n);
        };
        alone += cost(new MatrixFit(input, scale));
        together += cost(new MatrixFit({ ...input, feedback }, scale));
      }
      expect(together).toBeLessThan(0.6 * alone);
    },
  );

  it('keep the gain with further planes', () => {
    const of = { seed: 17, out: 48, n: 40 };
    const { target, input, feedback } = problem(of);
    const matrix = { out: of.out, tuned: new Float32Array(of.out * of.n), difference: target };
    const cost = (fit: MatrixFit, planes: number) =>
      costOf(
        fit.fit(matrix, planes).reduce((rest: Float32Array, plane) => addPlane(rest, plane, of.n, -1), target),
        feedback.metric,
        input.moment,
        of.n,
      );
    const together = new MatrixFit({ ...input, feedback }, 'row-col');
    expect(cost(together, 2)).toBeLessThan(0.6 * cost(together, 1));
    expect(cost(together, 2)).toBeLessThan(0.7 * cost(new MatrixFit(input, 'row-col'), 2));
  });

  it('have column scales that minimise what they cost together and the ridge', () => {
    fc.assert(
      fc.property(shape, (of) => {
        const { target, input, feedback } = problem(of);
        const { out, n } = of;
        const { moment } = input;
        const { metric } = feedback;
        const next = noise(of.seed + 2);
        const words = Math.ceil(n / 32);
        const signs = Uint32Array.from({ length: out * words }, () => (next() * 2 ** 31) >>> 0);
        const rowScale = Float32Array.from({ length: out }, () => Math.abs(next()) + 0.01);
        const plain = Float32Array.from({ length: n }, () => Math.abs(next()) + 0.1);
        const found = columnScales({ target, signs, rowScale, moment, n, metric }, plain);
        const value = (i: number, j: number) =>
          at(rowScale, i) * (((at(signs, i * words + (j >> 5)) >>> (j & 31)) & 1) === 1 ? 1 : -1);
        let trace = 0;
        for (let j = 0; j < n; j++)
          for (let i = 0; i < out; i++)
            for (let k = 0; k < out; k++)
              trace += at(metric, i * out + k) * value(i, j) * value(k, j) * at(moment, j * n + j);
        const objective = (colScale: Float32Array) =>
          costOf(addPlane(target, { signs, rowScale, colScale }, n, -1), metric, moment, n) +
          ((RIDGE * trace) / n) * colScale.reduce((sum, c, j) => sum + (c - at(plain, j)) ** 2, 0);
        const floor = plain.reduce((sum, c) => sum + c, 0) / n / 16;
        expectLeast(objective, found, { floor, rounding: 1e-4 });
      }),
      { numRuns: 20 },
    );
  });

  it('have nothing to make up for where no direction matters', () => {
    expect(rowFeedback(new Float32Array(9), 0.1)).toBeUndefined();
  });
});
