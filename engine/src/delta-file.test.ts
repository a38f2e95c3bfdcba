import { type Digest, encodeHeader } from '@signpost/contracts';
import { expect, it } from 'vitest';
import { openDelta } from './delta-file.ts';

const DIGEST = 'a'.repeat(64) as Digest;

/** A matrix of 1 × 32 signs, with this row scale. */
function deltaOf(scale: number): Uint8Array {
  const tensors = [
    { name: 'm.sign.0', dtype: 'U32' as const, shape: [1, 1] },
    { name: 'm.row_scale.0', dtype: 'F32' as const, shape: [1] },
  ];
  const metadata = {
    format: 'signpost-delta/1',
    base: DIGEST,
    expert: 'e',
    method: 'sign',
    parameters: '{}',
    errors: '{}',
    source: DIGEST,
    packer: 'test',
  };
  const header = encodeHeader(tensors, metadata);
  return Buffer.concat([
    header,
    new Uint8Array(Uint32Array.of(5).buffer),
    new Uint8Array(Float32Array.of(scale).buffer),
  ]);
}

it.each([Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY])('refuses a scale of %d', (scale) => {
  const params = (value: number) => [...openDelta(deltaOf(value), 'x.delta').params()];
  expect(params(0.5)).toMatchObject([{ stem: 'm', delta: { planes: [{ rowScale: Float32Array.of(0.5) }] } }]);
  expect(() => params(scale)).toThrow(/x\.delta: tensor m\.row_scale\.0 holds a value that is not finite/);
});
