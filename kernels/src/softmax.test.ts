/**
 * Softmax's weights against `Math.exp`.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { softmaxEdge, softmaxWeights } from './index.ts';

const logits = fc.array(fc.float({ min: -60, max: 60, noNaN: true }), { minLength: 1, maxLength: 100 });

describe('softmax weights', () => {
  it('are the exponentials of what is in, and nothing of the rest', () => {
    fc.assert(
      fc.property(
        logits,
        fc.double({ min: 0.05, max: 4, noNaN: true }),
        fc.nat(),
        fc.nat(),
        (list, temperature, a, b) => {
          const values = Float32Array.from(list);
          const top = Math.max(...values);
          const cutId = a % values.length;
          // At one of the values every second time, where its equals are cut by their index.
          const cut = b % 2 === 0 ? (values[b % values.length] ?? 0) : top - 3.3;
          const weights = new Float64Array(values.length);
          const total = softmaxWeights(values, top, temperature, cut, cutId, weights);
          let sum = 0;
          values.forEach((value, id) => {
            const isIn = value > cut || (value === cut && id <= cutId);
            const want = isIn ? Math.exp((value - top) / temperature) : 0;
            expect(Math.abs((weights[id] ?? Number.NaN) - want)).toBeLessThanOrEqual(1e-14 * want + 1e-300);
            sum += want;
          });
          expect(Math.abs(total - sum)).toBeLessThanOrEqual(1e-13 * sum);
          expect(softmaxWeights(values, top, temperature, cut, cutId)).toBe(total);
        },
      ),
    );
  });

  it('come to a share of their sum within the edge', () => {
    fc.assert(
      fc.property(
        logits,
        fc.double({ min: 0.05, max: 4, noNaN: true }),
        fc.double({ min: 0, max: 1, noNaN: true }),
        (list, temperature, share) => {
          const values = Float32Array.from(list);
          const top = Math.max(...values);
          const [weights, ids] = [new Float64Array(values.length), new Int32Array(values.length)];
          const target = share * softmaxWeights(values, top, temperature, -Number.MAX_VALUE, values.length, weights);
          const [count, before] = softmaxEdge(values, weights, top, temperature, target, ids);
          const edge = [...ids.subarray(0, count)];
          const highest = Math.max(...edge.map((id) => values[id] ?? Number.NaN));
          const weigh = (list: readonly number[]) => list.reduce((sum, id) => sum + (weights[id] ?? Number.NaN), 0);
          const likelier = [...values.keys()].filter((id) => (values[id] ?? 0) > highest);
          expect(edge).toEqual(edge.toSorted((a, b) => a - b));
          expect(Math.abs(weigh(likelier) - before)).toBeLessThanOrEqual(1e-12 * before);
          expect(before).toBeLessThanOrEqual(target);
          if (count > 0 && share < 0.999) expect(before + weigh(edge)).toBeGreaterThanOrEqual(target * (1 - 1e-12));
        },
      ),
    );
  });

  it('are nothing of −∞', () => {
    const values = Float32Array.of(Number.NEGATIVE_INFINITY, 1, Number.NEGATIVE_INFINITY);
    const weights = new Float64Array(3).fill(7);
    expect(softmaxWeights(values, 1, 1, -Number.MAX_VALUE, 3, weights)).toBe(1);
    expect([...weights]).toEqual([0, 1, 0]);
  });

  it('refuse a buffer that is too small', () => {
    expect(() => softmaxWeights(new Float32Array(4), 0, 1, 0, 4, new Float64Array(3))).toThrow(/fewer weights/);
  });
});
