import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Problem } from './problem.ts';
import {
  type Dtype,
  elementBytes,
  elementCount,
  encodeHeader,
  parseSafetensors,
  type TensorSpec,
} from './safetensors.ts';

const dtypes: Dtype[] = ['BF16', 'F16', 'F32', 'U32', 'I8', 'F64', 'BOOL'];
const specs: fc.Arbitrary<TensorSpec[]> = fc.uniqueArray(
  fc.record({
    name: fc.string({ minLength: 1, maxLength: 40 }).filter((name) => name !== '__metadata__' && name !== '__proto__'),
    dtype: fc.constantFrom(...dtypes),
    shape: fc.array(fc.integer({ min: 0, max: 7 }), { maxLength: 3 }),
  }),
  { selector: (spec) => spec.name, maxLength: 8 },
);
const metadata = fc.dictionary(
  fc.string({ maxLength: 10 }).filter((key) => key !== '__proto__'),
  fc.string({ maxLength: 20 }),
  { maxKeys: 4 },
);

function file(tensors: readonly TensorSpec[], values: Readonly<Record<string, string>>): Uint8Array {
  const header = encodeHeader(tensors, values);
  const data = tensors.reduce((sum, { dtype, shape }) => sum + elementCount(shape) * elementBytes(dtype), 0);
  const out = new Uint8Array(header.byteLength + data);
  out.set(header);
  return out;
}

describe('safetensors headers', () => {
  it('round-trip any tensors and metadata, with data aligned to 64 bytes', () => {
    fc.assert(
      fc.property(specs, metadata, (tensors, values) => {
        const parsed = parseSafetensors(file(tensors, values), 'test');
        expect(parsed.headerBytes % 64).toBe(0);
        expect(parsed.metadata).toEqual(values);
        // Empty tensors share an offset with their neighbour, so their order is not kept.
        const sort = (list: readonly TensorSpec[]) => [...list].sort((a, b) => (a.name < b.name ? -1 : 1));
        expect(sort(parsed.tensors.map(({ name, dtype, shape }) => ({ name, dtype, shape })))).toEqual(sort(tensors));
      }),
    );
  });

  it('refuse a file that lacks a byte or has one more', () => {
    fc.assert(
      fc.property(
        specs.filter((tensors) => tensors.length > 0),
        fc.nat(),
        (tensors, at) => {
          const whole = file(tensors, {});
          expect(() => parseSafetensors(whole.subarray(0, at % whole.byteLength), 'test')).toThrow(Problem);
          const longer = new Uint8Array(whole.byteLength + 1);
          longer.set(whole);
          expect(() => parseSafetensors(longer, 'test')).toThrow(/trailing bytes/);
        },
      ),
    );
  });

  it('never fail otherwise than by a Problem, whatever the bytes', () => {
    fc.assert(
      fc.property(fc.oneof(fc.uint8Array({ maxLength: 200 }), fc.json().map(withLength)), (bytes) => {
        try {
          parseSafetensors(bytes, 'test');
        } catch (error) {
          expect(error).toBeInstanceOf(Problem);
        }
      }),
    );
  });

  it.each([
    [
      'an overlap',
      '{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[2],"data_offsets":[2,4]}}',
      /overlap or gap/,
    ],
    ['a gap', '{"a":{"dtype":"U8","shape":[2],"data_offsets":[2,4]}}', /overlap or gap/],
    [
      'a shape that needs other bytes',
      '{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}',
      /needs 8 bytes, its offsets span 4/,
    ],
    [
      'a shape beyond any memory',
      '{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,4]}}',
      /needs/,
    ],
    ['an unknown dtype', '{"a":{"dtype":"Q3","shape":[4],"data_offsets":[0,4]}}', /unknown dtype Q3/],
    [
      'offsets that are no numbers',
      '{"a":{"dtype":"U8","shape":[4],"data_offsets":["0",4]}}',
      /tensor a: data_offsets/,
    ],
  ])('name the tensor with %s', (_, json, message) => {
    const bytes = new Uint8Array([...withLength(json), 0, 0, 0, 0]);
    expect(() => parseSafetensors(bytes, 'x.safetensors')).toThrow(message);
    expect(() => parseSafetensors(bytes, 'x.safetensors')).toThrow(/^x\.safetensors/);
  });

  it('refuse a header longer than the format allows before reading it', () => {
    const bytes = new Uint8Array(64).fill(0xff);
    expect(() => parseSafetensors(bytes, 'test')).toThrow(/beyond the format/);
  });
});

function withLength(json: string): Uint8Array {
  const text = new TextEncoder().encode(json);
  const out = new Uint8Array(8 + text.byteLength);
  new DataView(out.buffer).setBigUint64(0, BigInt(text.byteLength), true);
  out.set(text, 8);
  return out;
}
