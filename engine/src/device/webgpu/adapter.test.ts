/**
 * Which adapters are taken, and how the end of one is told.
 */
import { afterAll, describe, expect, it } from 'vitest';
import { openGpu } from './adapter.ts';
import { openTestGpu } from './testing.ts';

const gpu = await openTestGpu();
afterAll(() => gpu?.close());

describe.skipIf(gpu === undefined)('an adapter', () => {
  it('has its own limits and features, not the least of WebGPU', async () => {
    if (gpu === undefined) return;
    const { device, features, identity } = gpu;
    // WebGPU promises 128 MiB.
    expect(device.limits.maxStorageBufferBindingSize).toBeGreaterThan(2 ** 27);
    expect(features.f16).toBe(device.features.has('shader-f16'));
    if (features.subgroups !== undefined) expect(features.subgroups.min).toBeGreaterThan(0);
    expect(identity.key.split('/').length).toBeGreaterThanOrEqual(4);
  });

  it.runIf(gpu?.identity.isSoftware)('in software is refused unless it is allowed', async () => {
    await expect(openGpu({ software: 'refused' })).rejects.toThrow(/computes on the CPU.*--allow-software-gpu/);
  });

  it('that refuses work says so', async () => {
    const own = await openGpu({ software: 'allowed' });
    own.device.createBuffer({ size: 16, usage: 0 });
    expect(await own.lost).toMatch(/refused work/);
    own.close();
  });

  it('that is lost says so, unless it was closed', async () => {
    const [lost, closed] = [await openGpu({ software: 'allowed' }), await openGpu({ software: 'allowed' })];
    closed.close();
    lost.device.destroy();
    expect(await Promise.race([closed.lost, lost.lost])).toMatch(/was lost \(destroyed\)/);
    lost.close();
  });
});
