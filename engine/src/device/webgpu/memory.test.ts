/**
 * What a model needs of a GPU's memory, and what is said when it isn't there.
 */
import { afterAll, describe, expect, it } from 'vitest';
import type { DeviceConfig } from '../device.ts';
import { Sizes, type WebGpuOptions } from './memory.ts';
import { openTestGpu } from './testing.ts';
import { WebGpuDevice } from './webgpu-device.ts';

const gpu = await openTestGpu();
afterAll(() => gpu?.close());

const CONFIG: DeviceConfig = {
  params: [
    { name: 'matrix', shape: [64, 96] },
    { name: 'norm', shape: [96] },
  ],
  slots: 2,
  kv: { layers: 2, blocks: 4, blockTokens: 8, kvHeads: 2, headDim: 16 },
};
const OPTIONS: WebGpuOptions = {
  storage: [
    { dtype: 'BF16', format: 'stored' },
    { dtype: 'BF16', format: 'stored' },
  ],
  groups: [],
  sections: [],
  rows: 4,
  heads: 4,
  slotBytes: 4096,
};

describe('memory', () => {
  it.skipIf(gpu === undefined)('is the sum of what is held, and of what is computed in', () => {
    if (gpu === undefined) return;
    const of = (options: Partial<WebGpuOptions>) => new Sizes(gpu, CONFIG, { ...OPTIONS, ...options }).needs;
    const needs = of({ kvFormat: 'f32' });
    expect(needs.weights).toBe(64 * 96 * 2 + 96 * 4);
    expect(needs.slots).toBeGreaterThanOrEqual(2 * 4096);
    expect(needs.slots).toBeLessThan(2 * 4096 + 64);
    expect(needs.kv).toBe(2 * 2 * 4 * 8 * 2 * 16 * 4);
    expect(of({ kvFormat: 'f16' }).kv).toBe(needs.kv / 2);
    const { weights, slots, kv, scratch, sampling, transfers, total } = needs;
    expect(total).toBe(weights + slots + kv + scratch + sampling + transfers);
    const [, norm] = OPTIONS.storage;
    const quantised = [{ dtype: 'BF16', format: 'q4' } as const, ...(norm === undefined ? [] : [norm])];
    expect(of({ storage: quantised }).weights).toBe(64 * 3 * (16 + 2) + 96 * 4);
    const logits = { capacity: 4, cols: 96 };
    const more = of({ kvFormat: 'f32', scratch: { activations: [logits, logits], logits, positions: 32 } });
    expect(more.scratch).toBe(scratch + 2 * 4 * 96 * 4 + 32 * 16 * 4);
    expect(more.sampling).toBeGreaterThan(4 * 96 * 4);
    expect(more.transfers).toBeGreaterThan(transfers + 4 * 96 * 4);
  });

  it.skipIf(gpu === undefined)('beyond the budget is refused at the start, with the sum', async () => {
    if (gpu === undefined) return;
    const open = (budgetBytes: number) =>
      WebGpuDevice.open({ ...gpu, close() {} }, CONFIG, { ...OPTIONS, kvFormat: 'f32', budgetBytes });
    const { total } = new Sizes(gpu, CONFIG, { ...OPTIONS, kvFormat: 'f32' }).needs;
    await expect(open(total - 1)).rejects.toThrow(
      /--gpu-memory-bytes is .* MiB of weights \+ 2 slots · .* \+ 32 tokens of KV cache in f32 = .* \+ .* to compute 4 rows in \+ .* to choose tokens \+ .* of staging and readback come to .*; lower --slots/,
    );
    await (await open(total)).close();
  });

  it.skipIf(gpu === undefined)('of one slot is what an expert may take', async () => {
    if (gpu === undefined) return;
    const device = await WebGpuDevice.open({ ...gpu, close() {} }, CONFIG, { ...OPTIONS, slotBytes: 1024 });
    const plane = { signs: new Uint32Array(64 * 3), rowScale: new Float32Array(64) };
    expect(() => device.checkRoom('it', [{ param: 0, lengths: { planes: [plane] } }])).toThrow(
      'it takes 1056 bytes, and a slot has 1024; start the region with --slot-bytes 1056 or more',
    );
    expect(() => device.loadDelta(0, 0, { planes: [plane] })).toThrow(
      /matrix takes 1056 bytes, and slot 0 has 1024 left/,
    );
    // What is there is given back by what comes in its place, and by clearing.
    for (let i = 0; i < 20; i++) {
      device.loadDelta(0, 1, { planes: [], exact: new Uint16Array(96) });
      if (i % 3 === 0) device.clearSlot(0);
    }
    await device.close();
  });
});
