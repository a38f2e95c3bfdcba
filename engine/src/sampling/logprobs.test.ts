import fc from 'fast-check';
import { expect, it } from 'vitest';
import { logProbability, scoreToken } from './logprobs.ts';

const logitsOf = fc
  .array(fc.float({ min: -20, max: 20, noNaN: true }), { minLength: 2, maxLength: 30 })
  .map((values) => Float32Array.from(values));

it('log-probabilities are those of softmax, without overflow', () => {
  fc.assert(
    fc.property(logitsOf, (logits) => {
      const sum = logits.reduce((total, _, id) => total + Math.exp(logProbability(logits, id)), 0);
      expect(sum).toBeCloseTo(1, 9);
    }),
  );
  expect(logProbability(Float32Array.from([3000, 0]), 0)).toBeCloseTo(0);
});

it('a score holds the likeliest tokens in order, of equals the first', () => {
  fc.assert(
    fc.property(
      fc.array(fc.integer({ min: -3, max: 3 }), { minLength: 1, maxLength: 30 }).map((v) => Float32Array.from(v)),
      fc.nat(20),
      fc.nat(),
      (logits, alternatives, pick) => {
        const id = pick % logits.length;
        const sorted = [...logits.keys()].sort((a, b) => (logits[b] ?? 0) - (logits[a] ?? 0) || a - b);
        const { logprob, top } = scoreToken(logits, id, alternatives);
        expect(logprob).toBe(logProbability(logits, id));
        expect(top).toEqual(
          sorted.slice(0, alternatives).map((other) => ({ id: other, logprob: logProbability(logits, other) })),
        );
      },
    ),
  );
});
