import { describe, expect, it } from 'vitest';
import { floatToHalf, halfToFloat } from './float.ts';

const FINITE = Array.from({ length: 0x7c00 }, (_, bits) => bits);

describe('F16', () => {
  it('every finite half survives, with either sign', () => {
    for (const bits of FINITE) {
      expect(floatToHalf(halfToFloat(bits))).toBe(bits);
      expect(floatToHalf(-halfToFloat(bits))).toBe(bits | 0x8000);
    }
  });

  it('a number between two halves goes to the nearer one, halfway to the even one', () => {
    for (const bits of FINITE.slice(1)) {
      const [below, above] = [halfToFloat(bits - 1), halfToFloat(bits)];
      const middle = (below + above) / 2;
      const gap = (above - below) / 8;
      expect(floatToHalf(middle - gap)).toBe(bits - 1);
      expect(floatToHalf(middle)).toBe(bits % 2 === 0 ? bits : bits - 1);
      expect(floatToHalf(middle + gap)).toBe(bits);
    }
  });

  it('what is too large becomes an infinity, and NaN stays NaN', () => {
    expect(floatToHalf(65519)).toBe(0x7bff);
    expect(floatToHalf(65520)).toBe(0x7c00);
    expect(floatToHalf(Number.NEGATIVE_INFINITY)).toBe(0xfc00);
    expect(halfToFloat(floatToHalf(Number.NaN))).toBeNaN();
  });
});
