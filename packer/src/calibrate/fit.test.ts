/**
 * Calibrated fits against their own definition, written out plainly: Σ_i eᵀHe of dense rows.
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

const at = (values: ArrayLike<number>, index: number) => values[index] ?? Number.NaN;

const shape = fc.record({
  seed: fc.integer({ min: 1, max: 2 ** 30 }),
  out: fc.integer({ min: 2, max: 24 }),
  n: fc.integer({ min: 2, max: 40 }),
});

function problem({ seed, out, n }: { seed: number; out: number; n: number }) {
  const next = noise(seed);
  const columns = Array.from({ length: n }, () => 0.2 + 2 * Math.abs(next()));
  const target = Float32Array.from({ length: out * n }, (_, k) => next() * at(columns, k % n));
  const rows = Array.from({ length: 3 * n }, () => Array.from({ length: n }, next));
  const moment = Float32Array.from({ length: n * n }, (_, k) =>
    rows.reduce((sum, row) => sum + at(row, Math.floor(k / n)) * at(row, k % n), k % (n + 1) === 0 ? 0.1 : 0),
  );
  return { target, moment };
}

/** Σ_i eᵀHe */
function errorOf(left: Float32Array, moment: Float32Array, n: number): number {
  let total = 0;
  for (let i = 0; i < left.length; i += n)
    for (let j = 0; j < n; j++)
      for (let k = 0; k < n; k++) total += at(left, i + j) * at(moment, j * n + k) * at(left, i + k);
  return total;
}

describe('column scales', () => {
  it('minimise the weighted error and its ridge: no value can be moved for the better', () => {
    fc.assert(
      fc.property(shape, ({ seed, out, n }) => {
        const { target, moment } = problem({ seed, out, n });
        const next = noise(seed + 1);
        const words = Math.ceil(n / 32);
        const signs = Uint32Array.from({ length: out * words }, () => (next() * 2 ** 31) >>> 0);
        const rowScale = Float32Array.from({ length: out }, () => Math.abs(next()) + 0.01);
        const plain = Float32Array.from({ length: n }, () => Math.abs(next()) + 0.1);
        const found = columnScales({ target, signs, rowScale, moment, n }, plain);
        let trace = 0;
        for (let j = 0; j < n; j++) for (let i = 0; i < out; i++) trace += at(rowScale, i) ** 2 * at(moment, j * n + j);
        const objective = (colScale: Float32Array) =>
          errorOf(addPlane(target, { signs, rowScale, colScale }, n, -1), moment, n) +
          ((RIDGE * trace) / n) * colScale.reduce((sum, c, j) => sum + (c - at(plain, j)) ** 2, 0);
        const floor = plain.reduce((sum, value) => sum + value, 0) / n / 16;
        for (const scale of found) expect(scale).toBeGreaterThanOrEqual(Math.fround(floor) * (1 - 1e-6));
        expectLeast(objective, found, { floor, rounding: 1e-5 });
      }),
      { numRuns: 40 },
    );
  });
});

describe('a calibrated matrix', () => {
  const fitOf = (of: { seed: number; out: number; n: number }, scale: 'row' | 'row-col', planes: number) => {
    const { target, moment } = problem(of);
    const factor = moment.slice();
    factorMoment(factor, of.n);
    const [cross, tuned] = [new Float32Array(of.n ** 2), new Float32Array(of.out * of.n)];
    const input = { n: of.n, moment, factor, cross, drift: undefined };
    const fit = new MatrixFit(input, scale);
    const fitted = fit.fit({ out: of.out, tuned, difference: target }, planes);
    const { errors } = fit.measure({ out: of.out, tuned, difference: target }, planes);
    const left = fitted.reduce((rest: Float32Array, plane: Plane) => addPlane(rest, plane, of.n, -1), target);
    return { errors, error: errorOf(left, moment, of.n), whole: errorOf(target, moment, of.n), fitted };
  };

  it('states its errors as they are, and further planes leave less', () => {
    fc.assert(
      fc.property(shape, fc.constantFrom('row' as const, 'row-col' as const), (of, scale) => {
        const { errors, error, whole } = fitOf(of, scale, 2);
        expect(errors[0]).toBeCloseTo(whole, 2);
        expect(Math.abs((errors[2] ?? 0) - error)).toBeLessThan(1e-3 * (1 + whole));
        expect(errors[1]).toBeLessThan(whole);
        expect(errors[2]).toBeLessThanOrEqual((errors[1] ?? 0) * 1.001 + 1e-9);
      }),
      { numRuns: 40 },
    );
  });

  it('loses less with column scales where columns differ', () => {
    let [row, rowCol] = [0, 0];
    for (let seed = 1; seed <= 10; seed++) {
      const of = { seed: seed * 7919, out: 64, n: 32 };
      row += fitOf(of, 'row', 1).error;
      rowCol += fitOf(of, 'row-col', 1).error;
    }
    expect(rowCol).toBeLessThan(0.8 * row);
  });

  it('stays finite where a column is never needed', () => {
    const n = 8;
    const { moment } = problem({ seed: 5, out: 4, n });
    const factor = moment.slice();
    factorMoment(factor, n);
    const difference = Float32Array.from({ length: 4 * n }, (_, k) => (k % n === 3 ? 0 : Math.sin(k)));
    const input = { n, moment, factor, cross: new Float32Array(n * n), drift: undefined };
    const planes = new MatrixFit(input, 'row-col').fit({ out: 4, tuned: new Float32Array(4 * n), difference }, 1);
    for (const { rowScale, colScale } of planes)
      for (const value of [...rowScale, ...(colScale ?? [])]) expect(Number.isFinite(value)).toBe(true);
  });

  it('makes up for what the residual stream has lost', () => {
    const of = { seed: 11, out: 6, n: 10 };
    const { target, moment } = problem(of);
    const factor = moment.slice();
    factorMoment(factor, of.n);
    const lost = Float32Array.from({ length: of.out * of.n }, noise(3));
    // A stream that lacks `lost` x̂: R = lost H.
    const cross = new Float32Array(of.out * of.n);
    for (let i = 0; i < of.out; i++)
      for (let k = 0; k < of.n; k++)
        for (let j = 0; j < of.n; j++)
          cross[i * of.n + k] = at(cross, i * of.n + k) + at(lost, i * of.n + j) * at(moment, j * of.n + k);
    const input = { n: of.n, moment, factor, cross: new Float32Array(of.n ** 2) };
    const fit = (difference: Float32Array, drift: Float32Array | undefined) =>
      new MatrixFit({ ...input, drift }, 'row').measure(
        { out: of.out, tuned: new Float32Array(of.out * of.n), difference },
        1,
      ).errors[1] ?? 0;
    const asked = target.map((value, k) => value + at(lost, k));
    expect(fit(target, cross)).toBeCloseTo(fit(asked, undefined), 3);
  });
});
