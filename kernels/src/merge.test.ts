/**
 * Merge kernels against plain TypeScript, bit for bit.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { countMagnitudes, electAndMerge, type RawMatrix, subtract } from './index.ts';

const at = (values: ArrayLike<number>, index: number) => values[index] ?? Number.NaN;
const round = Math.fround;

function halfToFloat(bits: number): number {
  const [sign, exponent, mantissa] = [bits & 0x8000 ? -1 : 1, (bits >> 10) & 31, bits & 1023];
  return exponent === 0 ? sign * mantissa * 2 ** -24 : sign * (1 + mantissa / 1024) * 2 ** (exponent - 15);
}
const floatOf = (bits: number) => new Float32Array(Uint32Array.of(bits).buffer)[0] ?? Number.NaN;
const isFiniteHalf = (bits: number) => ((bits >> 10) & 31) !== 31;

describe('merge kernels', () => {
  it('subtract every finite half, and BF16 and F32 from each other', () => {
    const halves = Uint16Array.from({ length: 2 ** 16 }, (_, bits) => bits).filter(isFiniteHalf);
    const raw = (dtype: RawMatrix['dtype'], values: Uint16Array | Float32Array): RawMatrix => ({
      dtype,
      data: new Uint8Array(values.buffer),
    });
    const other = halves.slice().reverse();
    expect(subtract(raw('F16', halves), raw('F16', other))).toEqual(
      Float32Array.from(halves, (bits, i) => halfToFloat(at(other, i)) - halfToFloat(bits)),
    );
    const brains = Uint16Array.from({ length: 70_001 }, (_, i) => 0x3f00 + (i % 300));
    const floats = Float32Array.from(brains, (_, i) => Math.sin(i));
    const widened = Array.from(brains, (bits) => floatOf(bits << 16));
    expect(subtract(raw('BF16', brains), raw('F32', floats))).toEqual(
      Float32Array.from(floats, (value, i) => value - at(widened, i)),
    );
    expect(() => subtract(raw('BF16', brains), raw('F32', floats.slice(1)))).toThrow(/doesn't fit/);
  });

  it('count magnitudes by the halves of their bits', () => {
    fc.assert(
      fc.property(fc.array(fc.float({ noNaN: true }), { maxLength: 200 }), (list) => {
        const values = Float32Array.from(list);
        const bits = Array.from(new Uint32Array(values.buffer), (word) => word & 0x7fffffff);
        const counted = (upper: number) => {
          const counts = new Uint32Array(2 ** 16);
          countMagnitudes(counts, values, upper);
          return counts;
        };
        const expectCounts = (got: Uint32Array, keys: readonly number[]) => {
          const counts = new Uint32Array(2 ** 16);
          for (const key of keys) counts[key] = at(counts, key) + 1;
          // Comparing 65,536 numbers by one takes a while.
          expect(Buffer.compare(new Uint8Array(got.buffer), new Uint8Array(counts.buffer))).toBe(0);
        };
        expectCounts(
          counted(-1),
          bits.map((word) => word >>> 16),
        );
        const upper = (bits[0] ?? 0) >>> 16;
        expectCounts(
          counted(upper),
          bits.filter((word) => word >>> 16 === upper).map((word) => word & 0xffff),
        );
      }),
      { numRuns: 30 },
    );
  });

  it('elect signs and merge those that agree', () => {
    const value = fc.oneof(fc.constant(0), fc.float({ noNaN: true, noDefaultInfinity: true, min: -8, max: 8 }));
    const terms = fc.integer({ min: 1, max: 40 }).chain((n) =>
      fc.array(fc.record({ values: fc.array(value, { minLength: n, maxLength: n }), weight: value }), {
        minLength: 1,
        maxLength: 4,
      }),
    );
    fc.assert(
      fc.property(terms, fc.boolean(), (list, normalize) => {
        const n = list[0]?.values.length ?? 0;
        const out = new Float32Array(n);
        const weights = Float32Array.from(list, ({ weight }) => weight);
        const values = list.map((term) => Float32Array.from(term.values));
        electAndMerge(out, values, weights, normalize);
        const want = Float32Array.from(out, (_, i) => {
          const parts = values.map((own, t) => round(at(own, i) * at(weights, t)));
          const elected = parts.reduce((sum, part) => round(sum + part), 0);
          let [sum, weight] = [0, 0];
          for (const [t, part] of parts.entries()) {
            if (part === 0 || part > 0 !== elected >= 0) continue;
            sum = round(sum + part);
            weight = round(weight + at(weights, t));
          }
          return normalize && weight !== 0 ? sum / weight : sum;
        });
        expect(out).toEqual(want);
      }),
    );
  });
});
