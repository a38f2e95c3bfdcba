/**
 * The yardstick of prefill multiplies matrices.
 */
import { afterAll, describe, expect, it } from 'vitest';
import { Downloads, UnderWay } from '../../../engine/src/device/webgpu/buffers.ts';
import { openNullGpu, openTestGpu } from '../../../engine/src/device/webgpu/testing.ts';
import { plainMatmul, plainMatmulSource } from './plain-matmul.ts';

const gpu = await openTestGpu();
afterAll(() => gpu?.close());

describe('a plain matmul', () => {
  it.skipIf(gpu === undefined)('gives the products of two matrices, in F32', async () => {
    if (gpu === undefined) return;
    const { device } = gpu;
    const [rows, outs, columns] = [70, 130, 64];
    const value = (i: number) => ((i * 7) % 11) - 5;
    const matmul = plainMatmul(gpu, 'f32', { rows, outs, columns }, (buffer) =>
      device.queue.writeBuffer(
        buffer,
        0,
        Float32Array.from({ length: buffer.size / 4 }, (_, i) => value(i)),
      ),
    );
    await matmul.run(1);
    const encoder = device.createCommandEncoder();
    const download = new Downloads(gpu, new UnderWay(), []).copy(encoder, matmul.sums, rows * outs * 4);
    device.queue.submit([encoder.finish()]);
    let got = new Float32Array(0);
    await download.read((sums) => {
      got = sums.slice();
    });
    const want = Float32Array.from({ length: rows * outs }, (_, i) => {
      const [row, out] = [Math.floor(i / outs), i % outs];
      let sum = 0;
      for (let k = 0; k < columns; k++) sum += value(row * columns + k) * value(out * columns + k);
      return sum;
    });
    expect(got).toEqual(want);
    matmul.close();
  });

  it('is WGSL that Dawn takes in F16, too', async () => {
    const { device } = await openNullGpu();
    const module = device.createShaderModule({ code: plainMatmulSource('f16') });
    await device.createComputePipelineAsync({ layout: 'auto', compute: { module, entryPoint: 'main' } });
    device.destroy();
  });
});
