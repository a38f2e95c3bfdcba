/**
 * What an error of the residual stream costs, against KL itself.
 */
import { noise } from '@signpost/kernels/testing';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type ModelEnd, StreamMetric } from './stream-metric.ts';

const [HIDDEN, VOCAB] = [7, 5];
const EPSILON = 1e-5;
const at = (values: ArrayLike<number>, index: number) => values[index] ?? Number.NaN;

function problem(seed: number) {
  const next = noise(seed);
  // So small that no token is unlikely enough to be left out.
  const head = Array.from({ length: VOCAB }, () => Float32Array.from({ length: HIDDEN }, () => 0.3 * next()));
  const end: ModelEnd = {
    gain: Float32Array.from({ length: HIDDEN }, () => 0.5 + Math.abs(next())),
    epsilon: EPSILON,
    headRow: (token) => head[token] ?? new Float32Array(),
  };
  return { end, stream: Float32Array.from({ length: HIDDEN }, next) };
}

/** The next token's distribution, final norm and head written out. */
function nextToken({ gain, headRow }: ModelEnd, stream: ArrayLike<number>): Float64Array {
  const values = Array.from(stream);
  const size = Math.sqrt(values.reduce((sum, value) => sum + value * value, 0) / HIDDEN + EPSILON);
  const raw = Array.from({ length: VOCAB }, (_, token) =>
    Math.exp(values.reduce((sum, value, k) => sum + (at(gain, k) * value * at(headRow(token), k)) / size, 0)),
  );
  const total = raw.reduce((sum, value) => sum + value, 0);
  return Float64Array.from(raw, (value) => value / total);
}

const divergence = (p: Float64Array, q: Float64Array) =>
  p.reduce((sum, share, y) => sum + share * Math.log(share / at(q, y)), 0);

function cost(metric: Float32Array, change: readonly number[]): number {
  return change.reduce(
    (sum, a, i) => sum + change.reduce((inner, b, k) => inner + a * b * at(metric, i * HIDDEN + k), 0),
    0,
  );
}

describe('the metric of the residual stream', () => {
  it('is twice what a small change costs in KL, added up over tokens', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 2 ** 30 }), (seed) => {
        const { end, stream } = problem(seed);
        const streams = [stream, stream.map((value, k) => 2 * value + Math.sin(k))];
        const metric = new StreamMetric(end);
        for (const each of streams) metric.add(Float32Array.from(nextToken(end, each)), each);
        const next = noise(seed + 1);
        const change = Array.from({ length: HIDDEN }, () => 1e-3 * next());
        // Both ways: what is of third order falls out.
        let twice = 0;
        for (const each of streams)
          for (const way of [-1, 1]) {
            const moved = Array.from(each, (value, k) => value + way * at(change, k));
            twice += divergence(nextToken(end, each), nextToken(end, moved));
          }
        const stated = cost(metric.finish(), change);
        expect(Math.abs(stated - twice)).toBeLessThan(0.01 * twice + 1e-9);
      }),
    );
  });

  it('costs nothing along the stream, which the norm undoes, nor where the next token is certain', () => {
    const { end, stream } = problem(3);
    const metric = new StreamMetric({ ...end, epsilon: 0 });
    metric.add(Float32Array.from(nextToken(end, stream)), stream);
    const sum = metric.finish();
    expect(Math.abs(cost(sum, Array.from(stream)))).toBeLessThan(1e-5);
    expect(Math.max(...sum)).toBeGreaterThan(1e-3);
    const certain = new StreamMetric(end);
    certain.add(Float32Array.of(0, 1, 0, 0, 0), stream);
    expect(Math.max(...certain.finish())).toBe(0);
  });

  it('adds up more rows than it gathers', () => {
    const { end, stream } = problem(4);
    const sums = [1, 200].map((tokens) => {
      const metric = new StreamMetric(end);
      for (let token = 0; token < tokens; token++) metric.add(Float32Array.from(nextToken(end, stream)), stream);
      return metric.finish();
    });
    for (const [k, value] of sums[0]?.entries() ?? []) expect(at(sums[1] ?? [], k)).toBeCloseTo(200 * value, 2);
  });
});
