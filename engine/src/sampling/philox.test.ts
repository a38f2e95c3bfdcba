import { describe, expect, it } from 'vitest';
import { gumbel, philox } from './philox.ts';

function words(counter: readonly number[], key: readonly [number, number]): number[] {
  const block = Uint32Array.from(counter);
  philox(block, ...key);
  return [...block];
}

describe('philox', () => {
  // Random123's known answers (kat_vectors, philox4x32 10).
  it.each([
    [
      [0, 0, 0, 0],
      [0, 0],
      [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8],
    ],
    [Array(4).fill(0xffffffff), [0xffffffff, 0xffffffff], [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd]],
    [
      [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344],
      [0xa4093822, 0x299f31d0],
      [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1],
    ],
  ] as [number[], [number, number], number[]][])('gives the published words for counter %j', (counter, key, answer) => {
    expect(words(counter, key)).toEqual(answer);
  });
});

describe("a token's noise", () => {
  it('is Gumbel: 16 equally likely bins of 16,000 values pass a chi-square test', () => {
    const bins = new Array<number>(16).fill(0);
    for (let id = 0; id < 16_000; id++) {
      // Gumbel's cumulative distribution.
      const bin = Math.floor(Math.exp(-Math.exp(-gumbel({ seed: 1, choice: 0, place: 0 }, id))) * 16);
      bins[bin] = (bins[bin] ?? 0) + 1;
    }
    const chiSquare = bins.reduce((sum, count) => sum + (count - 1000) ** 2 / 1000, 0);
    // 15 degrees of freedom: exceeded once in 1000.
    expect(chiSquare).toBeLessThan(37.7);
  });

  it('differs by seed, beyond 32 bits too, by choice, by place and by token', () => {
    const draw = { seed: 1, choice: 0, place: 0 };
    const others = [{ seed: 2 ** 32 + 1 }, { seed: -1 }, { choice: 1 }, { place: 1 }].map((other) => ({
      ...draw,
      ...other,
    }));
    const noise = [draw, ...others].flatMap((each) => [0, 1, 4].map((id) => gumbel(each, id)));
    expect(new Set(noise).size).toBe(noise.length);
  });
});
