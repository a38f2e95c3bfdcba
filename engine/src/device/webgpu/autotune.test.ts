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
import type { Trial } from './trial.ts';
import { DEFAULT_MATMUL, type MatmulShape } from './tuning.ts';

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
    const other = { matvec, matmul: { bf16: { kernel: 'matmul', outLanes: 8, rowLanes: 8, groups: 2 } } };
    await writeFile(cache, JSON.stringify({ [gpu.identity.key]: other, 'another/adapter': measured }));
    expect(await tuned(gpu, { formats: ['bf16'], cache })).toEqual(other);
    await writeFile(cache, '{"half": ');
    const again = await tuned(gpu, { formats: ['bf16'], cache });
    expect(Object.keys(again.matvec).toSorted()).toEqual(['bf16 1', 'bf16 8']);
    expect(JSON.parse(await readFile(cache, 'utf8'))).toEqual({ [gpu.identity.key]: again });
  }, 60_000);
});

/** One that nothing is run on. */
function adapter(features: Partial<Gpu['features']>, limits: Partial<GPUSupportedLimits> = {}): Gpu {
  const most = { maxComputeInvocationsPerWorkgroup: 1024, maxComputeWorkgroupStorageSize: 49_152, ...limits };
  return {
    device: { limits: most } as GPUDevice,
    identity: { name: 'a card', key: 'card/driver', isSoftware: false },
    features: { f16: false, subgroups: undefined, timestamps: false, matrixUnit: undefined, ...features },
    lost: new Promise(() => {}),
    close() {},
  };
}

const RIGHT = Float32Array.of(1, -2, 4);
const idOf = ({ kernel, outLanes, rowLanes, groups }: MatmulShape) => `${kernel} ${outLanes} ${rowLanes} ${groups}`;

/** Notes what is tried, and takes the milliseconds that `msOf` says. */
function fakeTrial(msOf: (trial: Trial) => number, values: (trial: Trial) => Float32Array = () => RIGHT) {
  const tried: string[] = [];
  return {
    tried,
    trial: async (_: Gpu, trial: Trial) => {
      const { format, rows, kind, shape } = trial;
      tried.push(`${format} ${rows} ${kind === 'matmul' ? idOf(shape) : `${shape.workgroup} ${shape.passes}`}`);
      const ms = msOf(trial);
      return Number.isNaN(ms) ? undefined : { ms, values: values(trial) };
    },
  };
}

describe('the sizes of an adapter', () => {
  it('are those that took least, by format, and are kept', async () => {
    const cache = join(dir, 'sizes.json');
    const msOf = (trial: Trial) => {
      if (trial.kind === 'matvec') return Math.abs(trial.shape.workgroup - 100) + trial.shape.passes * trial.rows;
      const best = trial.format === 'q4' ? 'matmul 32 16 1' : 'matmul 8 16 2';
      return idOf(trial.shape) === best ? 1 : 5;
    };
    const first = fakeTrial(msOf);
    const card = adapter({});
    const measured = await tuned(card, { formats: ['q4', 'bf16'], cache, trial: first.trial });
    expect(measured).toEqual({
      matvec: Object.fromEntries(
        ['q4 1', 'q4 8', 'bf16 1', 'bf16 8'].map((key) => [key, { workgroup: 128, passes: 1 }]),
      ),
      matmul: {
        q4: { kernel: 'matmul', outLanes: 32, rowLanes: 16, groups: 1 },
        bf16: { kernel: 'matmul', outLanes: 8, rowLanes: 16, groups: 2 },
      },
    });
    const again = fakeTrial(msOf);
    expect(await tuned(card, { formats: ['bf16'], cache, trial: again.trial })).toEqual(measured);
    expect(again.tried).toEqual([]);
    const more = fakeTrial(msOf);
    await tuned(card, { formats: ['bf16', 'q8'], cache, trial: more.trial });
    expect(new Set(more.tried.map((trial) => trial.split(' ')[0]))).toEqual(new Set(['q8']));
  });

  it('are of what fits it, and F16 and matrix units only where it has them', async () => {
    const small = fakeTrial(() => 1);
    const limits = { maxComputeInvocationsPerWorkgroup: 128, maxComputeWorkgroupStorageSize: 16_384 };
    await bestMatmul(adapter({}, limits), 'q8', small.trial);
    expect(small.tried).toEqual(['q8 256 matmul 16 8 1', 'q8 256 matmul 8 8 1', 'q8 256 matmul 8 16 1']);
    const halves = fakeTrial(({ shape }) => ('kernel' in shape && shape.kernel === 'matmul_f16' ? 1 : 2));
    expect(await bestMatmul(adapter({ f16: true }), 'q8', halves.trial)).toMatchObject({ kernel: 'matmul_f16' });
    expect(halves.tried.some((trial) => trial.includes('matmul_matrices'))).toBe(false);
    const matrixUnit = { m: 16, n: 16, k: 16 };
    const all = adapter({ f16: true, subgroups: { min: 32, max: 32 }, matrixUnit });
    const units = fakeTrial(({ shape }) => ('kernel' in shape && shape.kernel === 'matmul_matrices' ? 1 : 2));
    expect(await bestMatmul(all, 'bf16', units.trial)).toEqual({ ...DEFAULT_MATMUL, kernel: 'matmul_matrices' });
  });

  it('are never of a kernel that is refused, or computes something else', async () => {
    const isOther = ({ shape }: Trial) => 'kernel' in shape && shape.kernel === 'matmul_f16';
    const card = adapter({ f16: true });
    const refusing = fakeTrial((trial) => (isOther(trial) ? Number.NaN : 2));
    expect(await bestMatmul(card, 'bf16', refusing.trial)).toEqual(DEFAULT_MATMUL);
    const wrong = fakeTrial(
      (trial) => (isOther(trial) ? 1 : 2),
      (trial) => (isOther(trial) ? Float32Array.of(1, -2, 4.1) : RIGHT),
    );
    expect(await bestMatmul(card, 'bf16', wrong.trial)).toEqual(DEFAULT_MATMUL);
  });

  it('are the default on a device that computes nothing, whatever it has', async () => {
    const { device } = await openNullGpu();
    // It takes the kernel, and gives zeros.
    const nothing: Gpu = {
      device,
      identity: { name: 'none', key: 'none', isSoftware: true },
      features: { f16: true, subgroups: { min: 4, max: 128 }, timestamps: false, matrixUnit: { m: 16, n: 16, k: 16 } },
      lost: new Promise(() => {}),
      close() {},
    };
    expect(await bestMatmul(nothing, 'bf16')).toEqual(DEFAULT_MATMUL);
    device.destroy();
    const want = Float32Array.of(1, -2, 4);
    expect(areNear(Float32Array.of(1.01, -2.03, 4), want)).toBe(true);
    expect(areNear(Float32Array.of(1.01, -2.05, 4), want)).toBe(false);
    expect(areNear(Float32Array.of(1, -2, Number.NaN), want)).toBe(false);
    expect(areNear(new Float32Array(3), new Float32Array(3))).toBe(false);
  });
});
