/**
 * The cpu device's packed values are the ones that plain TypeScript says, bit for bit, for every instruction set.
 */
import { instructionSets } from '@signpost/kernels';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { CpuDevice } from './cpu/cpu-device.ts';
import type { ParamDtype } from './device.ts';
import { KV } from './fixtures.ts';
import { brainToFloat, floatToBrain, floatToHalf, halfToFloat } from './float.ts';
import { quantized } from './quantize.ts';

/** Rows of a matrix as an embedding gives them. */
async function rowsOf(device: CpuDevice, rows: number, inDim: number): Promise<Float32Array> {
  const out = device.activations(rows, inDim);
  device.begin({
    tokens: Int32Array.from({ length: rows }, (_, row) => row),
    positions: Int32Array.from({ length: rows }, (_, row) => row),
    sequenceStart: Int32Array.of(0, rows),
    blockTable: Int32Array.from({ length: KV.blocks }, (_, block) => block),
    blocksPerSequence: KV.blocks,
    mixtureStart: new Int32Array(rows + 1),
    mixtureSlots: new Int32Array(0),
    mixtureWeights: new Float32Array(0),
    logitRows: new Int32Array(0),
  });
  device.embed(out, 0);
  return device.read(out);
}

/** A value as `dtype` holds it, and its bytes. */
function stored(dtype: ParamDtype, values: readonly number[]): { values: Float32Array; bytes: Uint8Array } {
  if (dtype === 'F32')
    return { values: Float32Array.from(values), bytes: new Uint8Array(Float32Array.from(values).buffer) };
  const [narrow, widen] = dtype === 'BF16' ? [floatToBrain, brainToFloat] : [floatToHalf, halfToFloat];
  const bits = Uint16Array.from(values, narrow);
  return { values: Float32Array.from(bits, widen), bytes: new Uint8Array(bits.buffer) };
}

/** Ordinary weights, ties, zeros, values that scales can't hold, and what is no number. */
const weight = fc.oneof(
  { weight: 8, arbitrary: fc.float({ min: -1, max: 1, noNaN: true }) },
  { weight: 2, arbitrary: fc.integer({ min: -254, max: 254 }).map((halves) => halves / 256) },
  { weight: 1, arbitrary: fc.constantFrom(0, -0, 1e-7, -1e-9, 3e4, -6e7, 1e38) },
);

describe.each(instructionSets())('a quantised matrix on %s', (instructionSet) => {
  it.each(['q8', 'q4'] as const)('%s has the values of the plain code', async (format) => {
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom<ParamDtype>('BF16', 'F16', 'F32'),
        fc.constantFrom(1, 5, 16, 31, 32, 33, 64, 100),
        fc.integer({ min: 1, max: 5 }),
        fc.infiniteStream(weight),
        async (dtype, inDim, rows, stream) => {
          const source = stored(
            dtype,
            Array.from({ length: rows * inDim }, () => stream.next().value ?? 0),
          );
          if (!source.values.every(Number.isFinite)) return;
          const config = { params: [{ name: 'matrix', shape: [rows, inDim] as const }], slots: 0, kv: KV };
          const device = new CpuDevice(config, instructionSet);
          device.loadParam(0, dtype, source.bytes, format);
          source.bytes.fill(0);
          const got = await rowsOf(device, rows, inDim);
          const want = quantized(source.values, inDim, format);
          want.forEach((value, i) => {
            if (Math.abs(value - (got[i] ?? Number.NaN)) !== 0)
              throw new Error(`value ${i} is ${got[i]}, the plain code has ${value} for ${source.values[i]}`);
          });
        },
      ),
      { numRuns: 200 },
    );
  });
});

describe('quantised values', () => {
  it.each([
    ['q8', 0.5 / 127 + 2 ** -12],
    ['q4', 1 / 8 + 2 ** -12],
  ] as const)('of %s are within half a step, or a step at the far end, of the weights', (format, bound) => {
    fc.assert(
      fc.property(fc.array(fc.float({ min: -1, max: 1, noNaN: true }), { minLength: 1, maxLength: 96 }), (list) => {
        const values = Float32Array.from(list);
        const got = quantized(values, values.length, format);
        for (let start = 0; start < values.length; start += 32) {
          const group = values.subarray(start, start + 32);
          const most = group.reduce((max, value) => Math.max(max, Math.abs(value)), 2 ** -10);
          group.forEach((value, i) => {
            expect(Math.abs(value - (got[start + i] ?? Number.NaN)) / most).toBeLessThanOrEqual(bound);
          });
        }
      }),
    );
  });

  it("are only a matrix's", () => {
    const config = { params: [{ name: 'vector', shape: [32] as const }], slots: 0, kv: KV };
    expect(() => new CpuDevice(config).loadParam(0, 'F32', new Uint8Array(128), 'q8')).toThrow(/a matrix can be Q8/);
  });
});
