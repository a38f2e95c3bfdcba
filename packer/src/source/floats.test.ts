/**
 * Whole arrays of 16-bit floats against one at a time.
 */
import { brainToFloat, floatToBrain, floatToHalf, halfToFloat } from '@signpost/engine';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { decodeFloats, encodeFloats } from './floats.ts';

const every = Uint16Array.from({ length: 2 ** 16 }, (_, bits) => bits);
const bytesOf = (values: Uint16Array | Float32Array) => new Uint8Array(values.buffer);

describe('16-bit floats', () => {
  it.each([
    ['BF16', brainToFloat],
    ['F16', halfToFloat],
  ] as const)('in %s are decoded as one is, all 65,536', (dtype, one) => {
    expect(decodeFloats(dtype, bytesOf(every))).toEqual(Float32Array.from(every, one));
  });

  it.each([
    ['BF16', floatToBrain],
    ['F16', floatToHalf],
  ] as const)('in %s are encoded as one is: rounded to the nearest, ties to even, NaN kept', (dtype, one) => {
    fc.assert(
      fc.property(fc.uint32Array({ minLength: 1, maxLength: 200 }), (bits) => {
        const values = new Float32Array(bits.slice().buffer);
        expect(encodeFloats(dtype, values)).toEqual(bytesOf(Uint16Array.from(values, one)));
      }),
    );
  });
});
