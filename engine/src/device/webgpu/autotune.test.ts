/**
 * Measured sizes: of what is possible, kept, and read again.
 */
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Gpu } from './adapter.ts';
import { areNear, bestMatmul, tuned } from './autotune.ts';
import { openNullGpu, openTestGpu } from './testing.ts';

const gpu = await openTestGpu();
let dir: string;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'signpost-tuning-'));
});
afterAll(async () => {
  gpu?.close();
  await rm(dir, { recursive: true, force: true });
});

describe.skipIf(gpu === undefined)('tuning', () => {
  it('measures once an adapter, and again what a spoilt file has lost', async () => {
    if (gpu === undefined) return;
    const cache = join(dir, 'below', 'tuning.json');
    const measured = await tuned(gpu, { formats: ['bf16'], cache });
    expect(Object.keys(measured.matvec).toSorted()).toEqual(['bf16 1', 'bf16 8']);
    const kept = JSON.parse(await readFile(cache, 'utf8')) as Record<string, unknown>;
    expect(kept).toEqual({ [gpu.identity.key]: measured });
    // Nothing half-written stays.
    expect(await readdir(join(dir, 'below'))).toEqual(['tuning.json']);
    const matvec = { 'bf16 1': { workgroup: 8, passes: 2 }, 'bf16 8': { workgroup: 16, passes: 1 } };
    const other = { matvec, matmul: 'matmul' };
    await writeFile(cache, JSON.stringify({ [gpu.identity.key]: other, 'another/adapter': measured }));
    expect(await tuned(gpu, { formats: ['bf16'], cache })).toEqual(other);
    await writeFile(cache, '{"half": ');
    const again = await tuned(gpu, { formats: ['bf16'], cache });
    expect(Object.keys(again.matvec).toSorted()).toEqual(['bf16 1', 'bf16 8']);
    expect(JSON.parse(await readFile(cache, 'utf8'))).toEqual({ [gpu.identity.key]: again });
  }, 60_000);
});

describe('matrix units', () => {
  it('are used only where what they compute is right', async () => {
    const { device } = await openNullGpu();
    // It takes the kernel, and gives zeros.
    const nothing: Gpu = {
      device,
      identity: { name: 'none', key: 'none', isSoftware: true },
      features: { f16: true, subgroups: { min: 4, max: 128 }, timestamps: false, matrixUnit: { m: 16, n: 16, k: 16 } },
      lost: new Promise(() => {}),
      close() {},
    };
    expect(await bestMatmul(nothing)).toBe('matmul');
    device.destroy();
    const want = Float32Array.of(1, -2, 4);
    expect(areNear(Float32Array.of(1.01, -2.03, 4), want)).toBe(true);
    expect(areNear(Float32Array.of(1.01, -2.05, 4), want)).toBe(false);
    expect(areNear(Float32Array.of(1, -2, Number.NaN), want)).toBe(false);
    expect(areNear(new Float32Array(3), new Float32Array(3))).toBe(false);
  });
});
