/**
 * Delta files on disk that are larger than any one buffer may be.
 */
import { mkdtemp, open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DELTA_FORMAT, encodeHeader, type TensorSpec } from '@signpost/contracts';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { openMappedDelta } from './delta-file.ts';

let dir: string;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'signpost-mapped-delta-'));
});
afterAll(() => rm(dir, { recursive: true }));

it('of more than 4 GiB opens, and its last tensor is read where it stands', async () => {
  const layer = 'model.layers.0.mlp';
  const tensors: TensorSpec[] = [
    // Holes on disk: 2.4 GB each.
    { name: `${layer}.gate_proj.delta`, dtype: 'BF16', shape: [36_864, 32_768] },
    { name: `${layer}.up_proj.delta`, dtype: 'BF16', shape: [36_864, 32_768] },
    { name: `${layer}.down_proj.sign.0`, dtype: 'U32', shape: [2, 1] },
    { name: `${layer}.down_proj.row_scale.0`, dtype: 'F32', shape: [2] },
  ];
  const digest = 'a'.repeat(64);
  const header = encodeHeader(tensors, {
    format: DELTA_FORMAT,
    base: digest,
    source: digest,
    expert: 'x',
    method: 'sign',
    parameters: '{}',
    errors: '{}',
    packer: '0.0.0',
  });
  const path = join(dir, 'x.delta.safetensors');
  const file = await open(path, 'w');
  const end = header.byteLength + 2 * 2 * 36_864 * 32_768;
  await file.write(header, 0, header.byteLength, 0);
  await file.write(new Uint8Array(Uint32Array.of(5, 9).buffer), 0, 8, end);
  await file.write(new Uint8Array(Float32Array.of(0.5, 0.25).buffer), 0, 8, end + 8);
  await file.close();

  const delta = openMappedDelta(path);
  expect(delta.bytes).toBe(end + 16);
  expect(delta.bytes).toBeGreaterThan(2 ** 32);
  const params = new Map([...delta.params()].map(({ stem, delta: change }) => [stem, change]));
  expect(params.get(`${layer}.down_proj`)?.planes).toEqual([
    { signs: Uint32Array.of(5, 9), rowScale: Float32Array.of(0.5, 0.25) },
  ]);
  expect(params.get(`${layer}.up_proj`)?.exact?.at(-1)).toBe(0);
});
