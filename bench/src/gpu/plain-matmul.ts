/**
 * What an adapter makes of a plain tiled matmul: the yardstick of prefill. In F16 where the adapter has that, else in F32.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Gpu } from '../../../engine/src/device/webgpu/adapter.ts';
import { USAGE } from '../../../engine/src/device/webgpu/buffers.ts';
import { secondsOf } from './seconds.ts';

const SIDE = 64;
const SOURCE = join(import.meta.dirname, 'plain-matmul.wgsl');
const PIECE_BYTES = 2 ** 22;

export type PlainValue = 'f16' | 'f32';

interface PlainMatmul {
  readonly rows: number;
  readonly outs: number;
  /** A multiple of 32. */
  readonly columns: number;
}

export function plainMatmulSource(value: PlainValue): string {
  const enable = value === 'f16' ? 'enable f16;\n' : '';
  return `${enable}alias Value = ${value};\n${readFileSync(SOURCE, 'utf8')}`;
}

/** Multiplies two matrices that `fill` writes. Gives what runs it once more, and where its sums are. */
export function plainMatmul(
  { device }: Pick<Gpu, 'device'>,
  value: PlainValue,
  { rows, outs, columns }: PlainMatmul,
  fill: (buffer: GPUBuffer) => void,
) {
  const usage = USAGE.storage | USAGE.copyTarget | USAGE.copySource;
  const valueBytes = value === 'f16' ? 2 : 4;
  const sizes = device.createBuffer({ size: 16, usage: USAGE.uniform | USAGE.copyTarget });
  const a = device.createBuffer({ size: rows * columns * valueBytes, usage });
  const b = device.createBuffer({ size: outs * columns * valueBytes, usage });
  const sums = device.createBuffer({ size: rows * outs * 4, usage });
  device.queue.writeBuffer(sizes, 0, Uint32Array.of(rows, outs, columns / 4, 0));
  for (const buffer of [a, b]) fill(buffer);
  const pipeline = device.createComputePipeline({
    layout: 'auto',
    compute: { module: device.createShaderModule({ code: plainMatmulSource(value) }), entryPoint: 'main' },
  });
  const bindGroup = device.createBindGroup({
    layout: pipeline.getBindGroupLayout(0),
    entries: [sizes, a, b, sums].map((buffer, binding) => ({ binding, resource: { buffer } })),
  });
  return {
    sums,
    run: async (repeats: number): Promise<void> => {
      const encoder = device.createCommandEncoder();
      const pass = encoder.beginComputePass();
      pass.setPipeline(pipeline);
      pass.setBindGroup(0, bindGroup);
      for (let i = 0; i < repeats; i++) pass.dispatchWorkgroups(Math.ceil(outs / SIDE), Math.ceil(rows / SIDE));
      pass.end();
      device.queue.submit([encoder.finish()]);
      await device.queue.onSubmittedWorkDone();
    },
    close: () => {
      for (const buffer of [sizes, a, b, sums]) buffer.destroy();
    },
  };
}

/** Floating-point operations a second. */
export async function plainMatmulSpeed(gpu: Gpu, of: PlainMatmul): Promise<{ value: PlainValue; flops: number }> {
  const value = gpu.features.f16 ? 'f16' : 'f32';
  const matmul = plainMatmul(gpu, value, of, (buffer) => fillSmall(gpu, buffer, value));
  const repeats = 4;
  const seconds = await secondsOf(1, () => matmul.run(repeats));
  matmul.close();
  return { value, flops: (repeats * 2 * of.rows * of.outs * of.columns) / seconds };
}

/** Values of either sign well within F16: zeros would take less power. */
function fillSmall({ device }: Gpu, buffer: GPUBuffer, value: PlainValue): void {
  const words = Uint32Array.from({ length: Math.min(PIECE_BYTES, buffer.size) / 4 }, (_, i) => {
    const noise = Math.imul(i + 1, 0x9e3779b1) >>> 0;
    return value === 'f16' ? (noise & 0x83ff83ff) | 0x2c002c00 : (noise & 0x807fffff) | 0x3d800000;
  });
  for (let from = 0; from < buffer.size; from += PIECE_BYTES)
    device.queue.writeBuffer(buffer, from, words, 0, Math.min(words.length, (buffer.size - from) / 4));
}
