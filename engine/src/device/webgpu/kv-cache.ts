/**
 * Keys and values on the GPU: all blocks of a run of layers in one buffer, as few as the adapter's limits allow.
 */
import { Problem } from '@signpost/contracts';
import type { DeviceConfig } from '../device.ts';
import type { Gpu } from './adapter.ts';
import { USAGE } from './buffers.ts';

export type KvFormat = 'f16' | 'f32';

/** Four values. */
const QUAD_BYTES = { f16: 8, f32: 16 } as const satisfies Record<KvFormat, number>;

export interface KvLayer {
  readonly buffer: GPUBuffer;
  /** First quads in it. */
  readonly keys: number;
  readonly values: number;
}

export class KvCache {
  readonly #buffers: readonly GPUBuffer[];
  readonly #layers: readonly KvLayer[];

  /** @throws Problem when one layer is more than the adapter allows in a buffer. */
  constructor({ device }: Gpu, kv: DeviceConfig['kv'], format: KvFormat) {
    const quads = layerQuads(kv);
    const layerBytes = 2 * quads * QUAD_BYTES[format];
    const limit = Math.min(device.limits.maxStorageBufferBindingSize, device.limits.maxBufferSize);
    if (layerBytes > limit)
      throw new Problem(
        `the KV cache needs ${layerBytes} bytes a layer, and the adapter allows ${limit} in a buffer; lower --kv-tokens`,
      );
    const perBuffer = Math.max(1, Math.floor(limit / Math.max(layerBytes, 1)));
    this.#buffers = Array.from({ length: Math.ceil(kv.layers / perBuffer) }, (_, i) =>
      device.createBuffer({
        label: `KV cache from layer ${i * perBuffer}`,
        size: Math.max(16, Math.min(perBuffer, kv.layers - i * perBuffer) * layerBytes),
        usage: USAGE.storage | USAGE.copySource | USAGE.copyTarget,
      }),
    );
    this.#layers = Array.from({ length: kv.layers }, (_, layer) => {
      const buffer = this.#buffers[Math.floor(layer / perBuffer)];
      if (buffer === undefined) throw new Error(`no buffer for layer ${layer}`);
      const keys = (layer % perBuffer) * 2 * quads;
      return { buffer, keys, values: keys + quads };
    });
  }

  layer(layer: number): KvLayer {
    const found = this.#layers[layer];
    if (found === undefined)
      throw new RangeError(`layer ${layer} of the KV cache does not exist; there are ${this.#layers.length}`);
    return found;
  }

  close(): void {
    for (const buffer of this.#buffers) buffer.destroy();
  }
}

/** A head's values are padded to whole fours. */
function layerQuads({ blocks, blockTokens, kvHeads, headDim }: DeviceConfig['kv']): number {
  return blocks * blockTokens * kvHeads * Math.ceil(headDim / 4);
}

export function kvBytes(kv: DeviceConfig['kv'], format: KvFormat): number {
  return 2 * kv.layers * layerQuads(kv) * QUAD_BYTES[format];
}
