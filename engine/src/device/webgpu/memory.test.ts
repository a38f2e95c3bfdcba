/**
 * What a model needs of a GPU's memory, and what is said when it isn't there.
 */
import { afterAll, describe, expect, it } from 'vitest';
import type { DeviceConfig } from '../device.ts';
import { memoryNeeds, type WebGpuOptions } from './memory.ts';
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
  it('is the sum of weights as they are held, slots, and keys and values', () => {
    const needs = memoryNeeds(CONFIG, OPTIONS, 'f32');
    expect(needs.weightBytes).toBe(64 * 96 * 2 + 96 * 4);
    expect(needs.slotsBytes).toBe(2 * 4096);
    expect(needs.kvBytes).toBe(2 * 2 * 4 * 8 * 2 * 16 * 4);
    expect(needs.totalBytes).toBe(needs.weightBytes + needs.slotsBytes + needs.kvBytes);
    expect(memoryNeeds(CONFIG, OPTIONS, 'f16').kvBytes).toBe(needs.kvBytes / 2);
    const quantised = {
      ...OPTIONS,
      storage: [{ dtype: 'BF16', format: 'q4' } as const, OPTIONS.storage[1] ?? { dtype: 'BF16', format: 'stored' }],
    };
    expect(memoryNeeds(CONFIG, quantised, 'f32').weightBytes).toBe(64 * 3 * (16 + 2) + 96 * 4);
  });

  it.skipIf(gpu === undefined)('beyond the budget is refused at the start, with the sum', async () => {
    if (gpu === undefined) return;
    const open = (budgetBytes: number) =>
      WebGpuDevice.open({ ...gpu, close() {} }, CONFIG, { ...OPTIONS, kvFormat: 'f32', budgetBytes });
    const { totalBytes } = memoryNeeds(CONFIG, OPTIONS, 'f32');
    await expect(open(totalBytes - 1)).rejects.toThrow(
      /--gpu-memory-bytes is .* MiB of weights \+ 2 slots · .* \+ 32 tokens of KV cache in f32 = .* come to .*; lower --slots/,
    );
    await (await open(totalBytes)).close();
  });

  it.skipIf(gpu === undefined)('of one slot is what an expert may take', async () => {
    if (gpu === undefined) return;
    const device = await WebGpuDevice.open({ ...gpu, close() {} }, CONFIG, { ...OPTIONS, slotBytes: 1024 });
    const plane = { signs: new Uint32Array(64 * 3), rowScale: new Float32Array(64) };
    expect(() => device.loadDelta(0, 0, { planes: [plane] })).toThrow(
      /more than the 1024 bytes that a slot has.*raise --slot-bytes/,
    );
    // What is there is given back by what comes in its place, and by clearing.
    for (let i = 0; i < 20; i++) {
      device.loadDelta(0, 1, { planes: [], exact: new Uint16Array(96) });
      if (i % 3 === 0) device.clearSlot(0);
    }
    await device.close();
  });
});
