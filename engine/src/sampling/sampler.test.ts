import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { argmax, logProbability, Sampler } from './sampler.ts';

const logitsOf = fc
  .array(fc.float({ min: -20, max: 20, noNaN: true }), { minLength: 2, maxLength: 30 })
  .map((values) => Float32Array.from(values));

function draws(logits: Float32Array, temperature: number, topP: number, count: number): number[] {
  const sampler = new Sampler({ temperature, topP, seed: 7 });
  return Array.from({ length: count }, () => sampler.next(logits));
}

describe('sampling', () => {
  it('at temperature 0 takes the likeliest token', () => {
    fc.assert(
      fc.property(logitsOf, (logits) => {
        expect(draws(logits, 0, 1, 1)).toEqual([argmax(logits)]);
      }),
    );
  });

  it('draws the same tokens from the same seed, and others from another', () => {
    const logits = new Float32Array(1000);
    expect(draws(logits, 1, 1, 20)).toEqual(draws(logits, 1, 1, 20));
    const other = new Sampler({ temperature: 1, topP: 1, seed: 8 });
    expect(draws(logits, 1, 1, 20)).not.toEqual(Array.from({ length: 20 }, () => other.next(logits)));
  });

  it('follows the probabilities', () => {
    const logits = Float32Array.from([0, Math.log(2), Math.log(5)]);
    const counts = [0, 0, 0];
    for (const id of draws(logits, 1, 1, 8000)) counts[id] = (counts[id] ?? 0) + 1;
    [1 / 8, 2 / 8, 5 / 8].forEach((share, id) => {
      expect(Math.abs((counts[id] ?? 0) / 8000 - share)).toBeLessThan(0.02);
    });
  });

  it('with top_p never leaves the smallest set that reaches it', () => {
    const logits = Float32Array.from([Math.log(6), Math.log(3), Math.log(1)]);
    expect(new Set(draws(logits, 1, 0.9, 500))).toEqual(new Set([0, 1]));
    expect(new Set(draws(logits, 1, 0.5, 500))).toEqual(new Set([0]));
  });
});

it('log-probabilities are those of softmax, without overflow', () => {
  fc.assert(
    fc.property(logitsOf, (logits) => {
      const sum = logits.reduce((total, _, id) => total + Math.exp(logProbability(logits, id)), 0);
      expect(sum).toBeCloseTo(1, 9);
    }),
  );
  expect(logProbability(Float32Array.from([3000, 0]), 0)).toBeCloseTo(0);
});
