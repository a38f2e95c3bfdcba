/**
 * A base model on a device, with experts in its slots: token ids in, logits out.
 */
import { type Digest, deltaStem, Problem } from '@signpost/contracts';
import type { Checkpoint } from '../checkpoint/checkpoint.ts';
import type { ModelConfig } from '../checkpoint/config.ts';
import type { DeltaFile } from '../delta-file.ts';
import type { Device, ParamSpec, RopeTable, StepBatch } from '../device/device.ts';
import { createDevice, type DeviceName } from '../device/index.ts';
import { createWorkspace, forward, type Workspace } from './forward.ts';
import { type ModelParams, modelParams, paramFormat, type WeightFormat } from './params.ts';
import { ropeTable } from './rope.ts';

export interface ModelOptions {
  readonly device: DeviceName;
  /** `bf16` when left out. */
  readonly weights?: WeightFormat;
  /** Told after each parameter how many of the checkpoint's bytes are in. */
  readonly onProgress?: (bytes: number, totalBytes: number) => void;
  /** Expert slots. */
  readonly slots: number;
  readonly kvBlocks: number;
  readonly blockTokens: number;
  /** Most rows one step may have. */
  readonly maxRows: number;
  /** Most rows of one step that logits may be asked for. */
  readonly maxLogitRows: number;
}

export class Model {
  readonly config: ModelConfig;
  readonly base: Digest;
  readonly #device: Device;
  readonly #params: ModelParams;
  readonly #paramOfStem: ReadonlyMap<string, number>;
  readonly #rope: RopeTable;
  readonly #maxLogitRows: number;
  /** Rows that the expert in each slot adds to the head. */
  readonly #added: number[];
  #space: Workspace<ReturnType<Device['activations']>>;

  private constructor(config: ModelConfig, params: ModelParams, device: Device, base: Digest, options: ModelOptions) {
    this.config = config;
    this.base = base;
    this.#params = params;
    this.#paramOfStem = new Map(this.#params.specs.map((spec, index) => [deltaStem(spec.name), index]));
    this.#rope = ropeTable(config, config.maxPositions);
    this.#device = device;
    this.#maxLogitRows = options.maxLogitRows;
    this.#added = new Array<number>(options.slots).fill(0);
    this.#space = createWorkspace(this.#device, config, options.maxRows, options.maxLogitRows);
  }

  /** Makes a checkpoint resident. @throws Problem when a tensor is missing or has another shape than the config says. */
  static async load(checkpoint: Checkpoint, options: ModelOptions): Promise<Model> {
    const { config } = checkpoint;
    const params = modelParams(config);
    const { layers, kvHeads, headDim } = config;
    const { kvBlocks: blocks, blockTokens, slots } = options;
    const kv = { layers, blocks, blockTokens, kvHeads, headDim };
    const device = createDevice(options.device, { params: params.specs, slots, kv });
    try {
      // A large checkpoint is hashed in a thread meanwhile.
      const [digest] = await Promise.all([checkpoint.digest(), loadParams(device, checkpoint, params, options)]);
      return new Model(config, params, device, digest, options);
    } catch (error) {
      device.close();
      throw error;
    }
  }

  /** Bytes that the base's weights take on the device. */
  get weightBytes(): number {
    return this.#device.paramBytes;
  }

  /** In execution order. */
  get params(): readonly ParamSpec[] {
    return this.#params.specs;
  }

  /** @throws Problem when the delta was made for another base, or doesn't fit this one's shapes. */
  checkDelta(delta: DeltaFile): void {
    delta.checkFits(this.base, this.#params.specs);
  }

  /** Puts an expert into a slot, replacing what was there. @throws Problem as `checkDelta`; the slot is then untouched. */
  loadExpert(slot: number, delta: DeltaFile): void {
    this.checkDelta(delta);
    const params = [...delta.params()];
    this.clearSlot(slot);
    for (const { stem, delta: change } of params) {
      const param = this.#paramOfStem.get(stem);
      if (param === undefined) throw new Problem(`${delta.where}: the base has no parameter ${stem}`);
      this.#device.loadDelta(slot, param, change);
    }
    this.#setAdded(slot, delta.addedRows);
  }

  clearSlot(slot: number): void {
    this.#device.clearSlot(slot);
    this.#setAdded(slot, 0);
  }

  /** Columns of the logits: the vocabulary, and what the experts now loaded add to it. */
  get logitWidth(): number {
    return this.#space.logits.cols;
  }

  /**
   * Logits (n, logitWidth) of the batch's `logitRows`, in the first values of `into` where it is given. −∞ stands beyond a row's own
   * vocabulary.
   *
   * @throws RangeError when the batch doesn't fit the sizes given at load.
   */
  forward(batch: StepBatch, into?: Float32Array): Promise<Float32Array> {
    return forward(this.#device, this.config, this.#params, this.#rope, this.#space, batch, into);
  }

  close(): void {
    this.#device.close();
  }

  #setAdded(slot: number, rows: number): void {
    this.#added[slot] = rows;
    const width = this.config.vocabSize + Math.max(0, ...this.#added);
    if (width === this.#space.logits.cols) return;
    this.#space = { ...this.#space, logits: this.#device.activations(this.#maxLogitRows, width) };
  }
}

/** Parameter by parameter, so that what has been copied to the device needn't stay in memory twice. */
async function loadParams(
  device: Device,
  checkpoint: Checkpoint,
  { specs }: ModelParams,
  { weights = 'bf16', onProgress }: ModelOptions,
): Promise<void> {
  const totalBytes = specs.reduce((sum, { name }) => sum + (checkpoint.tensors.get(name)?.info.bytes ?? 0), 0);
  let bytes = 0;
  for (const [index, spec] of specs.entries()) {
    const { dtype, data } = checkpoint.param(spec);
    device.loadParam(index, dtype, data, paramFormat(spec, weights));
    checkpoint.release(spec);
    bytes += data.byteLength;
    onProgress?.(bytes, totalBytes);
  }
}
