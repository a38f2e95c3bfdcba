/**
 * Every op on the GPU against the reference, over odd shapes, in each variant that this machine's adapter can run.
 */
import fc from 'fast-check';
import { afterAll, describe, it } from 'vitest';
import { configOf, fill, HEADS, type Shape, shape, storageOf } from '../fixtures.ts';
import { ReferenceDevice } from '../reference/reference-device.ts';
import { expectNear, runOps, usualSize } from '../run-ops.ts';
import type { Gpu } from './adapter.ts';
import type { WebGpuOptions } from './memory.ts';
import { FORMAT_CODE } from './pack.ts';
import { openTestGpu } from './testing.ts';
import { WebGpuDevice } from './webgpu-device.ts';

const gpu = await openTestGpu();
afterAll(() => gpu?.close());

type Variant = Pick<WebGpuOptions, 'reduce' | 'kvFormat' | 'measured'>;

function open(of: Shape, on: Gpu, variant: Variant): Promise<WebGpuDevice> {
  return WebGpuDevice.open({ ...on, close() {} }, configOf(of), {
    storage: storageOf(of),
    groups: [],
    sections: [],
    rows: 64,
    heads: HEADS,
    ...variant,
  });
}

describe.skipIf(gpu === undefined).each([
  ['subgroups', 'f32', '16 8 1', 3e-5, 8],
  ['workgroup', 'f32', '32 8 1', 3e-5, 4],
  ['subgroups', 'f16', '8 8 3', 2e-3, 4],
] as const)('the GPU (sums through %s, cache in %s, tiles of %s)', (reduce, kvFormat, tile, tolerance, numRuns) => {
  const [outLanes = 0, rowLanes = 0, groups = 0] = tile.split(' ').map(Number);
  const matmul = { kernel: 'matmul', outLanes, rowLanes, groups } as const;
  const measured = {
    matvec: {},
    matmul: Object.fromEntries(Object.keys(FORMAT_CODE).map((format) => [format, matmul])),
  };
  it.skipIf(reduce === 'subgroups' && gpu?.features.subgroups === undefined)(
    'computes what the reference computes, over any shapes',
    async () => {
      if (gpu === undefined) return;
      await fc.assert(
        fc.asyncProperty(shape, async (of) => {
          const device = await open(of, gpu, { reduce, kvFormat, measured });
          const reference = new ReferenceDevice(configOf(of));
          for (const each of [device, reference]) fill(each, of);
          const [got, want] = [await runOps(device, of), await runOps(reference, of)];
          for (const [name, values] of Object.entries(want))
            expectNear(got[name], values, name, name.startsWith('attention') ? tolerance : 3e-5, usualSize(name, of));
          await device.close();
        }),
        { numRuns },
      );
    },
    180_000,
  );
});
