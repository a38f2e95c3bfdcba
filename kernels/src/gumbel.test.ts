/**
 * The native draw against its formula, token by token.
 */
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { gumbelArgmax } from './index.ts';

const MASK = 2n ** 32n - 1n;

/** Philox4x32-10 in arbitrary integers, and of its words the noise. */
function noise([key0 = 0, key1 = 0, choice = 0, place = 0]: Uint32Array, id: number): number {
  let [a, b, c, d] = [BigInt(place), BigInt(choice), BigInt(id >> 2), 0n];
  for (let round = 0n; round < 10n; round++) {
    const [low, high] = [0xd2511f53n * a, 0xcd9e8d57n * c];
    a = (high >> 32n) ^ b ^ ((BigInt(key0) + 0x9e3779b9n * round) & MASK);
    c = (low >> 32n) ^ d ^ ((BigInt(key1) + 0xbb67ae85n * round) & MASK);
    b = high & MASK;
    d = low & MASK;
  }
  return -Math.log(-Math.log1p(-(Number([a, b, c, d][id & 3]) + 0.5) / 2 ** 32));
}

it('a draw is the largest of what is in, with its noise', () => {
  const word = fc.integer({ min: 0, max: 2 ** 32 - 1 });
  fc.assert(
    fc.property(
      fc.array(fc.integer({ min: -40, max: 40 }), { minLength: 1, maxLength: 150 }),
      fc.double({ min: 0.05, max: 4, noNaN: true }),
      fc.option(fc.nat(), { nil: undefined }),
      fc.tuple(word, word, word, word),
      (steps, temperature, cut, keyWords) => {
        const logits = Float32Array.from(steps, (step) => step / 4);
        const best = logits.indexOf(Math.max(...logits));
        const cutId = cut === undefined ? logits.length : cut % logits.length;
        const cutLogit = cut === undefined ? -Number.MAX_VALUE : (logits[cutId] ?? 0);
        const key = Uint32Array.from(keyWords);
        let [chosen, highest] = [-1, Number.NEGATIVE_INFINITY];
        logits.forEach((logit, id) => {
          const score = (logit - (logits[best] ?? 0)) / temperature + noise(key, id);
          const isIn = logit > cutLogit || (logit === cutLogit && id <= cutId);
          if (isIn && score > highest) [chosen, highest] = [id, score];
        });
        expect(gumbelArgmax(logits, best, temperature, cutLogit, cutId, key)).toBe(chosen);
      },
    ),
    { numRuns: 2000 },
  );
});

it('refuses what it would read beyond', () => {
  const draw = (best: number, key: number) =>
    gumbelArgmax(new Float32Array(4), best, 1, -Number.MAX_VALUE, 4, new Uint32Array(key));
  expect(() => draw(4, 4)).toThrow(/best must be an integer from 0 to 3/);
  expect(() => draw(0, 3)).toThrow(/key doesn't fit/);
});
