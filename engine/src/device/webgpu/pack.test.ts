/**
 * Quantised matrices as the GPU holds them are the values of the plain code.
 */
import fc from 'fast-check';
import { expect, it } from 'vitest';
import type { ParamDtype } from '../device.ts';
import { brainToFloat, floatToBrain, floatToHalf, halfToFloat } from '../float.ts';
import { quantized } from '../quantize.ts';
import { groupsOf, matrixBytes, packMatrix } from './pack.ts';

/** Bytes of values in a type, at an odd offset or not, and the values as it holds them. */
function stored(dtype: ParamDtype, values: readonly number[], offset: number) {
  const [narrow, widen] = dtype === 'BF16' ? [floatToBrain, brainToFloat] : [floatToHalf, halfToFloat];
  const bits = dtype === 'F32' ? Float32Array.from(values) : Uint16Array.from(values, narrow);
  const data = new Uint8Array(bits.byteLength + offset).subarray(offset);
  data.set(new Uint8Array(bits.buffer));
  return { data, values: dtype === 'F32' ? Float32Array.from(values) : Float32Array.from(bits, widen) };
}

/** What shaders/matrix.wgsl makes of it. */
function unpacked(packed: Uint8Array, rows: number, columns: number, format: 'q8' | 'q4'): Float32Array {
  const groups = groupsOf(columns);
  const scales = new DataView(packed.buffer, packed.byteOffset + matrixBytes(rows, columns, format).scales);
  return Float32Array.from({ length: rows * columns }, (_, i) => {
    const [row, column] = [Math.floor(i / columns), i % columns];
    const at = row * groups * 32 + column;
    const scale = halfToFloat(scales.getUint16((row * groups + Math.floor(column / 32)) * 2, true));
    if (format === 'q8') return scale * (((packed[at] ?? 0) << 24) >> 24);
    const pair = packed[at >> 1] ?? 0;
    return scale * ((at % 2 === 0 ? pair & 15 : pair >> 4) - 8);
  });
}

const weight = fc.oneof(
  { weight: 8, arbitrary: fc.float({ min: -1, max: 1, noNaN: true }) },
  { weight: 1, arbitrary: fc.constantFrom(0, -0, 0.5, 1e-7, -1e-9, 3e4) },
);

it.each(['q8', 'q4'] as const)('a matrix in %s is packed as the plain code quantises it', (format) => {
  fc.assert(
    fc.property(
      fc.constantFrom<ParamDtype>('BF16', 'F16', 'F32'),
      fc.constantFrom(0, 2),
      fc.integer({ min: 1, max: 9 }),
      fc.constantFrom(1, 31, 32, 33, 96, 100),
      fc.infiniteStream(weight),
      (dtype, offset, rows, columns, stream) => {
        const given = Array.from({ length: rows * columns }, () => stream.next().value ?? 0);
        const source = stored(dtype, given, offset);
        const packed = new Uint8Array(matrixBytes(rows, columns, format).bytes);
        packMatrix(packed, source.data, columns, { dtype, format });
        const got = unpacked(packed, rows, columns, format);
        const want = quantized(source.values, columns, format);
        // Zeros of either sign are the same.
        expect(got.map((value) => value + 0)).toEqual(want.map((value) => value + 0));
      },
    ),
    { numRuns: 200 },
  );
});
