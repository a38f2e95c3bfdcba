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
import { type ModelParams, modelParams } from './params.ts';
import { ropeTable } from './rope.ts';

export interface ModelOptions {
  readonly device: DeviceName;
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

  private constructor(checkpoint: Checkpoint, base: Digest, options: ModelOptions) {
    const { config } = checkpoint;
    this.config = config;
    this.base = base;
    this.#params = modelParams(config);
    this.#paramOfStem = new Map(this.#params.specs.map((spec, index) => [deltaStem(spec.name), index]));
    this.#rope = ropeTable(config, config.maxPositions);
    this.#device = createDevice(options.device, {
      params: this.#params.specs,
      slots: options.slots,
      kv: {
        layers: config.layers,
        blocks: options.kvBlocks,
        blockTokens: options.blockTokens,
        kvHeads: config.kvHeads,
        headDim: config.headDim,
      },
    });
    this.#maxLogitRows = options.maxLogitRows;
    this.#added = new Array<number>(options.slots).fill(0);
    this.#space = createWorkspace(this.#device, config, options.maxRows, options.maxLogitRows);
    for (const [index, spec] of this.#params.specs.entries()) {
      const { dtype, data } = checkpoint.param(spec);
      this.#device.loadParam(index, dtype, data);
    }
  }

  /** Makes a checkpoint resident. @throws Problem when a tensor is missing or has another shape than the config says. */
  static async load(checkpoint: Checkpoint, options: ModelOptions): Promise<Model> {
    return new Model(checkpoint, await checkpoint.digest(), options);
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
