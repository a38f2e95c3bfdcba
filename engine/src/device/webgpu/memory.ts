/**
 * What the device needs of the GPU's memory, and whether that is there. WebGPU can't be asked for free memory: a budget is the operator's to give, and what
 * the GPU doesn't have shows when it is taken.
 */
import { Problem } from '@signpost/contracts';
import { MOST_ASKED_EDITS } from '../choice.ts';
import type { DeviceConfig } from '../device.ts';
import type { Gpu } from './adapter.ts';
import { STAGED_BYTES } from './buffers.ts';
import { type KvFormat, kvBytes } from './kv-cache.ts';
import { type MatrixFormat, matrixFormat, type ParamStorage } from './pack.ts';
import { CONSTANT_BYTES } from './plan.ts';
import { chosenBytes, type SamplerShape, samplerBytes } from './sampling/device-sampler.ts';
import { activationBytes, type ScratchLayout, scratchBytes } from './scratch.ts';
import type { Variants } from './shader.ts';
import { defaultSlotBytes, type SlotsLayout, slotsBytes } from './slots.ts';
import { rowClassesOf, stepBytes } from './step.ts';
import { type Measured, NOTHING_MEASURED, type TunedGpu, Tuning } from './tuning.ts';
import { extraParts, weightBytes } from './weights.ts';

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
  /** What the forward pass computes in, set aside at the start; nothing where it is left out. */
  readonly scratch?: ScratchLayout;
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

/** Bytes. */
export interface MemoryNeeds {
  readonly weights: number;
  readonly slot: number;
  readonly slots: number;
  readonly kv: number;
  /** Activations, angles, and what plans and steps are told. */
  readonly scratch: number;
  readonly sampling: number;
  /** What is on its way here or there. */
  readonly transfers: number;
  readonly total: number;
}

/** What sizes follow from: the adapter, the model and the flags. */
export class Sizes {
  readonly kvFormat: KvFormat;
  readonly tuning: Tuning;
  readonly slots: SlotsLayout;
  readonly scratch: ScratchLayout;
  readonly splitFloats: number;
  /** Where there are logits to choose from. */
  readonly sampler: SamplerShape | undefined;
  /** Bytes of each. */
  readonly downloads: readonly number[];
  /** Dispatches of plans that are kept. */
  readonly dispatches: number;
  readonly needs: MemoryNeeds;

  constructor(gpu: TunedGpu, config: DeviceConfig, options: WebGpuOptions) {
    const { limits } = gpu.device;
    this.kvFormat = options.kvFormat ?? (gpu.features.f16 ? 'f16' : 'f32');
    this.tuning = new Tuning(gpu, config, options.measured ?? NOTHING_MEASURED, mainFormat(config, options));
    this.scratch = options.scratch ?? { activations: [], positions: 0 };
    this.splitFloats = this.tuning.splitFloats(options.heads);
    const slot = options.slotBytes ?? defaultSlotBytes(config.params);
    this.slots = { specs: config.params, slots: config.slots, slotBytes: slot, sections: options.sections };
    const { logits } = this.scratch;
    this.sampler = logits && { logits, edits: mostEdits(logits, config) };
    this.downloads = logits === undefined ? [] : [activationBytes(logits), chosenBytes(logits.capacity)];
    const weightsLayout = { specs: config.params, ...options };
    this.dispatches = keptDispatches(config, options.rows, extraParts(weightsLayout, limits));
    const bytes = {
      weights: weightBytes(weightsLayout, limits),
      slots: slotsBytes(this.slots, limits),
      kv: kvBytes(config.kv, this.kvFormat),
      scratch:
        scratchBytes(this.scratch, config, this.splitFloats) +
        stepBytes(config, options.rows) +
        this.dispatches * CONSTANT_BYTES,
      sampling: this.sampler === undefined ? 0 : samplerBytes(this.sampler),
      transfers: STAGED_BYTES + this.downloads.reduce((sum, size) => sum + size, 0),
    };
    this.needs = { slot, ...bytes, total: Object.values(bytes).reduce((sum, each) => sum + each, 0) };
  }
}

/** Of most of the matrices' values. */
function mainFormat({ params }: DeviceConfig, { storage }: WebGpuOptions): MatrixFormat | undefined {
  const values = new Map<MatrixFormat, number>();
  for (const [param, stored] of storage.entries()) {
    const [rows = 0, columns = 0] = params[param]?.shape ?? [];
    const format = matrixFormat(stored);
    values.set(format, (values.get(format) ?? 0) + rows * columns);
  }
  return [...values].toSorted(([, a], [, b]) => b - a)[0]?.[0];
}

/** Tokens in the cache may all be penalised, and each answer have as many biases as it may ask for. More are, where sequences share a prefix. */
function mostEdits({ capacity, cols }: { capacity: number; cols: number }, { kv }: DeviceConfig): number {
  return Math.min(capacity * cols, kv.blocks * kv.blockTokens + capacity * MOST_ASKED_EDITS);
}

/** At most so many dispatches are a layer's, with nothing joined; and so many come once. */
const MOST_OF_LAYER = 16;
const MOST_ONCE = 8;
/** A plan for each class of rows, of prompts and of answers, and one for the rows whose logits are wanted. */
const KEPT_OF_CLASS = 3;

function keptDispatches({ kv }: DeviceConfig, rows: number, parts: number): number {
  return KEPT_OF_CLASS * rowClassesOf(rows).length * (MOST_OF_LAYER * kv.layers + MOST_ONCE + parts);
}

/** Opens what takes memory. @throws Problem with the arithmetic when there isn't enough. */
export async function withMemory<T>(
  gpu: Gpu,
  config: DeviceConfig,
  options: WebGpuOptions,
  create: (sizes: Sizes) => T,
): Promise<T> {
  const sizes = new Sizes(gpu, config, options);
  const { needs } = sizes;
  const sum = arithmetic(config, options.rows, sizes);
  if (options.budgetBytes !== undefined && needs.total > options.budgetBytes)
    throw new Problem(`--gpu-memory-bytes is ${size(options.budgetBytes)}, and ${sum}`);
  const { device } = gpu;
  device.pushErrorScope('out-of-memory');
  device.pushErrorScope('validation');
  const created = create(sizes);
  const [invalid, full] = [await device.popErrorScope(), await device.popErrorScope()];
  if (full !== null) throw new Problem(`${gpu.identity.name} has too little memory: ${sum} (${full.message})`);
  if (invalid !== null) throw new Problem(`${gpu.identity.name} can't hold the model: ${sum} (${invalid.message})`);
  return created;
}

function arithmetic({ slots, kv }: DeviceConfig, rows: number, { needs, kvFormat }: Sizes): string {
  return `${size(needs.weights)} of weights + ${slots} slots · ${size(needs.slot)} = ${size(needs.slots)} + ${kv.blocks * kv.blockTokens} tokens of KV cache in ${kvFormat} = ${size(needs.kv)} + ${size(needs.scratch)} to compute ${rows} rows in + ${size(needs.sampling)} to choose tokens + ${size(needs.transfers)} of staging and readback come to ${size(needs.total)}; lower --slots, --slot-bytes, --kv-tokens, --max-step-tokens or --max-sequences, or use --weights q8 or q4`;
}

function size(bytes: number): string {
  return `${(bytes / 2 ** 20).toFixed(bytes < 2 ** 24 ? 2 : 0)} MiB`;
}
