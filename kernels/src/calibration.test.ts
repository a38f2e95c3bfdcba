/**
 * Calibration kernels against plain TypeScript, bit for bit, over odd shapes and any number of threads; and against what they are for.
 */

import fc from 'fast-check';
import { afterEach, describe, expect, it } from 'vitest';
import {
  addMoment,
  chooseSigns,
  correctTargets,
  factorMoment,
  refineSigns,
  setThreads,
  threads,
  weightedProducts,
  weightedSquares,
} from './index.ts';
import { noise } from './testing.ts';

const started = threads();
afterEach(() => setThreads(started));

const shape = fc.record({
  seed: fc.integer({ min: 1, max: 2 ** 30 }),
  out: fc.integer({ min: 1, max: 37 }),
  n: fc.integer({ min: 1, max: 45 }),
  rows: fc.integer({ min: 1, max: 40 }),
  threads: fc.integer({ min: 1, max: 3 }),
});
/** Now and then more columns than one tile has, and more rows than are added at once. */
const anyShape = fc.oneof(
  { weight: 19, arbitrary: shape },
  {
    weight: 1,
    arbitrary: fc.record({
      seed: fc.integer({ min: 1, max: 2 ** 30 }),
      out: fc.integer({ min: 1, max: 3 }),
      n: fc.integer({ min: 257, max: 280 }),
      rows: fc.integer({ min: 60, max: 70 }),
      threads: fc.integer({ min: 1, max: 3 }),
    }),
  },
);
type Shape = typeof shape extends fc.Arbitrary<infer S> ? S : never;

const round = Math.fround;
const at = (values: ArrayLike<number>, index: number) => values[index] ?? Number.NaN;
const bit = (signs: Uint32Array, words: number, i: number, j: number) =>
  (at(signs, i * words + (j >> 5)) >>> (j & 31)) & 1;

function plainMoment(x: Float32Array, y: Float32Array, m: number, n: number): Float32Array {
  const moment = new Float32Array(m * n);
  for (let i = 0; i < m; i++)
    for (let k = 0; k < n; k++)
      for (let row = 0; row < y.length / n; row++)
        moment[i * n + k] = at(moment, i * n + k) + round(at(x, row * m + i) * at(y, row * n + k));
  return moment;
}

/** Right to left, one column at a time; then its mirror. */
function plainFactor(moment: Float32Array, n: number): Float32Array {
  const u = moment.slice();
  for (let c = n - 1; c >= 0; c--) {
    const diagonal = round(Math.sqrt(at(u, c * n + c)));
    u[c * n + c] = diagonal;
    for (let i = 0; i < c; i++) u[i * n + c] = at(u, i * n + c) / diagonal;
    for (let i = 0; i < c; i++)
      for (let k = 0; k < c; k++) u[i * n + k] = at(u, i * n + k) - round(at(u, i * n + c) * at(u, k * n + c));
  }
  for (let i = 0; i < n; i++) for (let k = 0; k < i; k++) u[i * n + k] = at(u, k * n + i);
  return u;
}

/** A problem of the given shape: a moment that is surely positive definite, targets, weights, scales. */
function problem({ seed, out, n, rows }: Shape) {
  const next = noise(seed);
  const x = Float32Array.from({ length: rows * n }, next);
  const moment = plainMoment(x, x, n, n);
  for (let i = 0; i < n; i++) moment[i * n + i] = at(moment, i * n + i) + 0.5;
  const factor = plainFactor(moment, n);
  return {
    x,
    moment,
    factor,
    target: Float32Array.from({ length: out * n }, next),
    weights: Float32Array.from({ length: out * n }, next),
    scale: Float32Array.from({ length: out }, () => Math.abs(next())),
    words: Math.ceil(n / 32),
  };
}

/** eᵀHe of one row. */
function rowError(
  of: Shape,
  { target, moment, scale, words }: ReturnType<typeof problem>,
  signs: Uint32Array,
  i: number,
) {
  const { n } = of;
  const e = Array.from(
    { length: n },
    (_, j) => at(target, i * n + j) - at(scale, i) * (2 * bit(signs, words, i, j) - 1),
  );
  return e.reduce((sum, a, j) => sum + e.reduce((inner, b, k) => inner + a * b * at(moment, j * n + k), 0), 0);
}

describe('calibration kernels', () => {
  it('add second moments and factor them as plain code does', () => {
    fc.assert(
      fc.property(anyShape, (of) => {
        setThreads(of.threads);
        const { x, moment, factor } = problem(of);
        const { out: m, n } = of;
        const wide = Float32Array.from({ length: (x.length / n) * m }, noise(of.seed + 2));
        const [square, oblong] = [new Float32Array(n * n), new Float32Array(m * n)];
        addMoment(square, x, x, n, n);
        expect(square).toEqual(plainMoment(x, x, n, n));
        addMoment(oblong, wide, x, m, n);
        expect(oblong).toEqual(plainMoment(wide, x, m, n));
        const ours = moment.slice();
        expect(factorMoment(ours, of.n)).toBe(-1);
        expect(ours).toEqual(factor);
      }),
    );
  });

  it('choose signs with feedback as plain code does', () => {
    fc.assert(
      fc.property(anyShape, (of) => {
        setThreads(of.threads);
        const { out, n } = of;
        const { target, factor, scale, words } = problem(of);
        const signs = new Uint32Array(out * words);
        chooseSigns(target, factor, scale, signs, out, n);
        for (let i = 0; i < out; i++) {
          const left = target.slice(i * n, (i + 1) * n);
          for (let j = 0; j < n; j++) {
            const isPositive = at(left, j) >= 0;
            expect(bit(signs, words, i, j)).toBe(Number(isPositive));
            const weight = at(target, i * n + j);
            const error = round(isPositive ? weight - at(scale, i) : weight + at(scale, i));
            for (let k = j + 1; k < n; k++)
              left[k] = at(left, k) + round(error * round(at(factor, j * n + k) * round(1 / at(factor, k * n + k))));
          }
        }
      }),
    );
  });

  it('flip signs only for the better, until no single flip helps', () => {
    fc.assert(
      fc.property(shape, (of) => {
        setThreads(of.threads);
        const { out, n } = of;
        const given = problem(of);
        const { target, scale, moment, words } = given;
        const before = new Uint32Array(out * words);
        const after = before.slice();
        refineSigns(target, after, scale, moment, out, n, 1_000);
        for (let i = 0; i < out; i++) {
          const reached = rowError(of, given, after, i);
          expect(reached).toBeLessThanOrEqual(rowError(of, given, before, i) * (1 + 1e-5) + 1e-4);
          for (let j = 0; j < n; j++) {
            const flipped = after.slice();
            flipped[i * words + (j >> 5)] = (at(flipped, i * words + (j >> 5)) ^ (1 << (j & 31))) >>> 0;
            expect(rowError(of, given, flipped, i)).toBeGreaterThan(reached - 1e-5 * (1 + reached));
          }
        }
      }),
      { numRuns: 30 },
    );
  });

  it('weigh rows by the moment as plain code does', () => {
    fc.assert(
      fc.property(anyShape, (of) => {
        setThreads(of.threads);
        const { out, n } = of;
        const { target, moment, words } = problem(of);
        const signs = Uint32Array.from({ length: out * words }, (_, i) => Math.imul(of.seed + i, 0x9e3779b1));
        const sums = [new Float64Array(out), new Float64Array(out), new Float64Array(out)] as const;
        weightedProducts(target, signs, moment, out, n, sums[0], sums[1]);
        weightedSquares(target, moment, out, n, sums[2]);
        for (let i = 0; i < out; i++) {
          const s = Array.from({ length: n }, (_, j) => 2 * bit(signs, words, i, j) - 1);
          const t = Array.from(target.subarray(i * n, (i + 1) * n));
          const times = (row: number[]) =>
            row.map((_, k) => row.reduce((sum, value, j) => round(sum + round(value * at(moment, j * n + k))), 0));
          const dot = (a: number[], b: number[]) => a.reduce((sum, value, k) => sum + value * at(b, k), 0);
          expect([at(sums[0], i), at(sums[1], i), at(sums[2], i)]).toEqual([
            dot(times(s), t),
            dot(times(s), s),
            dot(times(t), t),
          ]);
        }
      }),
    );
  });

  it('correct targets by the least-squares answer', () => {
    fc.assert(
      fc.property(anyShape, (of) => {
        setThreads(of.threads);
        const { out, n } = of;
        const { target, weights, moment, factor } = problem(of);
        const cross = Float32Array.from({ length: n * n }, noise(of.seed + 1));
        const drift = of.rows % 2 === 0 ? Float32Array.from({ length: out * n }, noise(of.seed + 2)) : undefined;
        const corrected = target.slice();
        correctTargets(corrected, weights, cross, factor, drift, out, n);
        // What was added times H is w D + drift.
        for (let i = 0; i < out; i++)
          for (let k = 0; k < n; k++) {
            let [got, want] = [0, drift?.[i * n + k] ?? 0];
            for (let j = 0; j < n; j++) {
              got += (at(corrected, i * n + j) - at(target, i * n + j)) * at(moment, j * n + k);
              want += at(weights, i * n + j) * at(cross, j * n + k);
            }
            expect(Math.abs(got - want)).toBeLessThan(2e-3 * (1 + Math.abs(want)));
          }
      }),
    );
  });

  it('name the column where a moment is not positive definite', () => {
    expect(factorMoment(Float32Array.of(1, 0, 0, -1), 2)).toBe(1);
    expect(factorMoment(Float32Array.of(Number.NaN, 0, 0, 1), 2)).toBe(0);
  });

  it('refuse sizes that do not fit', () => {
    const two = new Float32Array(4);
    expect(() => addMoment(two, new Float32Array(4), new Float32Array(2), 2, 2)).toThrow(RangeError);
    expect(() => factorMoment(two, 3)).toThrow(/doesn't fit/);
    const [row, signs, scale] = [new Float32Array(2), new Uint32Array(1), new Float32Array(1)];
    expect(() => chooseSigns(row, new Float32Array(3), scale, signs, 1, 2)).toThrow(RangeError);
    expect(() => refineSigns(row, signs, new Float32Array(2), two, 1, 2, 1)).toThrow(RangeError);
    expect(() => correctTargets(row, row, two, new Float32Array(1), undefined, 1, 2)).toThrow(RangeError);
    expect(() => correctTargets(row, row, two, two, new Float32Array(1), 1, 2)).toThrow(/drift/);
    const one = new Float64Array(1);
    expect(() => weightedProducts(row, signs, two, 1, 2, new Float64Array(2), one)).toThrow(RangeError);
    expect(() => weightedSquares(row, two, 1, 2, new Float64Array(2))).toThrow(RangeError);
  });
});
