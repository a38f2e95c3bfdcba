/**
 * What the device needs of the GPU's memory, and whether that is there. WebGPU can't be asked for free memory: a budget is the operator's to give, and what
 * the GPU doesn't have shows when it is taken.
 */
import { Problem } from '@signpost/contracts';
import type { DeviceConfig } from '../device.ts';
import type { Gpu } from './adapter.ts';
import { type KvFormat, kvBytes } from './kv-cache.ts';
import type { ParamStorage } from './pack.ts';
import type { Variants } from './shader.ts';
import { defaultSlotBytes } from './slots.ts';
import type { Measured } from './tuning.ts';
import { weightBytes } from './weights.ts';

export interface WebGpuOptions {
  /** How each parameter will be loaded. */
  readonly storage: readonly ParamStorage[];
  /** Matrices that linear layers of one input have. */
  readonly groups: readonly (readonly number[])[];
  /** First parameter of each layer, and of what follows the last. */
  readonly sections: readonly number[];
  /** Most rows of a step. */
  readonly rows: number;
  /** Attention heads of a row. */
  readonly heads: number;
  /** Bytes of one expert slot; two planes a matrix where it is left out. */
  readonly slotBytes?: number | undefined;
  /** Bytes of the GPU's memory that may be used; as much as it takes where it is left out. */
  readonly budgetBytes?: number | undefined;
  /** F16 where the adapter has it, if left out. */
  readonly kvFormat?: KvFormat | undefined;
  /** Subgroups where the adapter has them, if left out. */
  readonly reduce?: Variants['reduce'] | undefined;
  /** What was measured on the adapter. */
  readonly measured?: Measured | undefined;
}

interface MemoryNeeds {
  readonly weightBytes: number;
  readonly slotBytes: number;
  readonly slotsBytes: number;
  readonly kvBytes: number;
  readonly totalBytes: number;
}

/** Without activations, which are a few rows. */
export function memoryNeeds(config: DeviceConfig, options: WebGpuOptions, kvFormat: KvFormat): MemoryNeeds {
  const slotBytes = options.slotBytes ?? defaultSlotBytes(config.params);
  const needs = {
    weightBytes: weightBytes({ specs: config.params, ...options }),
    slotBytes,
    slotsBytes: slotBytes * config.slots,
    kvBytes: kvBytes(config.kv, kvFormat),
  };
  return { ...needs, totalBytes: needs.weightBytes + needs.slotsBytes + needs.kvBytes };
}

/** Opens what takes memory. @throws Problem with the arithmetic when there isn't enough. */
export async function withMemory<T>(
  gpu: Gpu,
  config: DeviceConfig,
  options: WebGpuOptions,
  create: () => T,
): Promise<T> {
  const kvFormat = options.kvFormat ?? (gpu.features.f16 ? 'f16' : 'f32');
  const needs = memoryNeeds(config, options, kvFormat);
  const sum = arithmetic(config, needs, kvFormat);
  if (options.budgetBytes !== undefined && needs.totalBytes > options.budgetBytes)
    throw new Problem(`--gpu-memory-bytes is ${size(options.budgetBytes)}, and ${sum}`);
  const { device } = gpu;
  device.pushErrorScope('out-of-memory');
  device.pushErrorScope('validation');
  const created = create();
  const [invalid, full] = [await device.popErrorScope(), await device.popErrorScope()];
  if (full !== null) throw new Problem(`${gpu.identity.name} has too little memory: ${sum} (${full.message})`);
  if (invalid !== null) throw new Problem(`${gpu.identity.name} can't hold the model: ${sum} (${invalid.message})`);
  return created;
}

function arithmetic({ slots, kv }: DeviceConfig, needs: MemoryNeeds, kvFormat: KvFormat): string {
  const { weightBytes: base, slotBytes, slotsBytes, kvBytes: cache, totalBytes } = needs;
  return `${size(base)} of weights + ${slots} slots · ${size(slotBytes)} = ${size(slotsBytes)} + ${kv.blocks * kv.blockTokens} tokens of KV cache in ${kvFormat} = ${size(cache)} come to ${size(totalBytes)}; lower --slots, --slot-bytes or --kv-tokens, or use --weights q8 or q4`;
}

function size(bytes: number): string {
  return `${(bytes / 2 ** 20).toFixed(bytes < 2 ** 24 ? 2 : 0)} MiB`;
}
