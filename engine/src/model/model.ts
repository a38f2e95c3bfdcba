/**
 * A base model on a device, with experts in its slots: token ids in, logits out.
 */
import { setImmediate as turn } from 'node:timers/promises';
import { type Digest, deltaStem, Problem } from '@signpost/contracts';
import { abortable } from '../abortable.ts';
import type { Checkpoint } from '../checkpoint/checkpoint.ts';
import type { ModelConfig } from '../checkpoint/config.ts';
import type { DeltaFile } from '../delta-file.ts';
import type { ChosenToken, TokenChoice } from '../device/choice.ts';
import type { Activations, Device, ParamSpec, RopeTable, StepBatch } from '../device/device.ts';
import { type DeviceLayout, type DeviceName, type GpuSettings, openDevice } from '../device/index.ts';
import { samplingParams } from '../sampling/params.ts';
import { createWorkspace, forward, groupsOf, type Workspace, workspaceShapes } from './forward.ts';
import { type ModelParams, modelParams, paramFormat, sectionsOf, type WeightFormat } from './params.ts';
import { ropeTable } from './rope.ts';
import { SlotFilling, stageCount, stageOf } from './slot-filling.ts';

export interface ModelOptions {
  readonly device: DeviceName;
  /** `bf16` when left out. */
  readonly weights?: WeightFormat;
  /**
   * Where weights are once the model is loaded: in memory of the device's own, or still in the checkpoint's files, where the device can compute from them there:
   * until `settle`, which nothing has to wait for. `memory` when left out.
   */
  readonly residence?: 'memory' | 'files';
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
  /** Steps that may wait for experts at once (`forwardArriving`); a device has room for as many from the start. None when left out. */
  readonly maxArriving?: number;
  /** Of device `webgpu`. */
  readonly gpu?: GpuSettings;
}

/** How long a step computes before others have their turn: while its experts come in, and once they are in, when it is a step like any other. */
const SLICE_MS = { arriving: 8, whole: 64 };

/** One row of one sequence, on the base. */
const FIRST_STEP: StepBatch = {
  tokens: Int32Array.of(0),
  positions: Int32Array.of(0),
  sequenceStart: Int32Array.of(0, 1),
  blockTable: Int32Array.of(0),
  blocksPerSequence: 1,
  mixtureStart: Int32Array.of(0, 0),
  mixtureSlots: new Int32Array(0),
  mixtureWeights: new Float32Array(0),
  logitRows: Int32Array.of(0),
};
const FIRST_CHOICE: TokenChoice = {
  params: samplingParams({ temperature: 0 }),
  place: 0,
  edits: [],
  alternatives: undefined,
};

type Space = Workspace<ReturnType<Device['activations']>>;

export class Model {
  readonly config: ModelConfig;
  readonly base: Digest;
  readonly #device: Device;
  readonly #params: ModelParams;
  readonly #paramOfStem: ReadonlyMap<string, number>;
  readonly #rope: RopeTable;
  readonly #maxRows: number;
  /** Slots being filled. */
  readonly #fillings = new Map<number, SlotFilling>();
  /** Residual streams of chunks that wait for experts, and of those that did. */
  readonly #spareRows: Space['x'][] = [];
  /** Rows that the expert in each slot adds to the head. */
  readonly #added: number[];
  #space: Space;

  private constructor(config: ModelConfig, params: ModelParams, device: Device, base: Digest, options: ModelOptions) {
    this.config = config;
    this.base = base;
    this.#params = params;
    this.#paramOfStem = new Map(this.#params.specs.map((spec, index) => [deltaStem(spec.name), index]));
    this.#rope = ropeTable(config, config.maxPositions);
    this.#device = device;
    this.#maxRows = options.maxRows;
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
    const layout = layoutOf(checkpoint, params, options);
    const device = await openDevice(options.device, { params: params.specs, slots, kv }, layout, options.gpu ?? {});
    try {
      // A large checkpoint is hashed in a thread meanwhile.
      const [digest] = await Promise.all([checkpoint.digest(), loadParams(device, checkpoint, params, options)]);
      return new Model(config, params, device, digest, options);
    } catch (error) {
      await device.close();
      throw error;
    }
  }

  /**
   * Copies into memory of the device's own what it computes from in the checkpoint's files, beside its work. @returns bytes that stay there, since there was no memory
   * for them. @throws Error with the path when a file was written to since: what is computed from it is no longer this base.
   */
  async settle(): Promise<number> {
    return (await this.#device.settle?.()) ?? 0;
  }

  /** Bytes that the base's weights take on the device. */
  get weightBytes(): number {
    return this.#device.paramBytes;
  }

  /** Fulfilled with why, should the device be lost. */
  get lost(): Promise<string> | undefined {
    return this.#device.lost;
  }

  /** Bytes that a device with memory of its own has set aside; undefined on one without. */
  get deviceBytes(): number | undefined {
    return this.#device.memoryBytes;
  }

  /**
   * Has the device make all that steps can need, so that none waits for a compiler, and runs a first one: before anything is in the cache.
   *
   * @param onProgress told after each kernel how many are compiled; never by a device that compiles none.
   */
  async warmUp(onProgress?: (compiled: number, total: number) => void): Promise<void> {
    const { warmUp, choose } = this.#device;
    if (warmUp === undefined) return;
    await this.#step(FIRST_STEP, async (logits) => {
      await warmUp.call(this.#device, logits, onProgress);
      await choose?.call(this.#device, logits, [FIRST_CHOICE], 1);
    });
  }

  /** In execution order. */
  get params(): readonly ParamSpec[] {
    return this.#params.specs;
  }

  /** By its header alone. @throws Problem when the delta was made for another base, or doesn't fit this one's shapes or the device's slots. */
  checkDelta(delta: DeltaFile): void {
    delta.checkFits(this.base, this.#params.specs);
    const deltas = [...delta.parts()].map(({ stem, lengths }) => ({ param: this.#paramOf(delta, stem), lengths }));
    this.#device.checkRoom?.(`${delta.where}: expert "${delta.metadata.expert}"`, deltas);
  }

  /** Puts an expert into a slot, replacing what was there. @throws Problem as `checkDelta`; the slot is then untouched. */
  loadExpert(slot: number, delta: DeltaFile): void {
    this.checkDelta(delta);
    const params = [...delta.params()];
    this.clearSlot(slot);
    for (const { stem, delta: change } of params) this.#device.loadDelta(slot, this.#paramOf(delta, stem), change);
    this.#setAdded(slot, delta.addedRows);
  }

  /**
   * Puts an expert into a slot, parameter by parameter as its bytes come in. From the call on until it is whole, `forwardArriving` may use the slot.
   *
   * @param opening the file, once its header is there.
   * @param until what to wait for until the file's first so many bytes are there; undefined where they are.
   * @throws Problem as `checkDelta`, and what `opening` and `until` throw; the slot is then empty.
   */
  async fillSlot(
    slot: number,
    opening: Promise<DeltaFile>,
    until: (end: number) => Promise<void> | undefined,
  ): Promise<void> {
    const filling = new SlotFilling();
    this.#fillings.set(slot, filling);
    this.clearSlot(slot);
    try {
      const delta = await opening;
      this.checkDelta(delta);
      const parts = [...delta.parts()].map((part) => ({ ...part, param: this.#paramOf(delta, part.stem) }));
      const stages = parts.map(({ param }) => stageOf(this.#params, param));
      filling.begin(stages, stageCount(this.#params));
      for (const { param, end, read } of parts) {
        const missing = until(end);
        if (missing !== undefined) await missing;
        this.#device.loadDelta(slot, param, read());
        filling.advance();
      }
      await until(delta.bytes);
      this.#setAdded(slot, delta.addedRows);
      filling.finish();
    } catch (error) {
      filling.fail(error);
      this.clearSlot(slot);
      throw error;
    } finally {
      this.#fillings.delete(slot);
    }
  }

  #paramOf({ where }: DeltaFile, stem: string): number {
    const param = this.#paramOfStem.get(stem);
    if (param === undefined) throw new Problem(`${where}: the base has no parameter ${stem}`);
    return param;
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
   * vocabulary. Runs without a pause.
   *
   * @throws RangeError when the batch doesn't fit the sizes given at load, or has an expert that isn't whole.
   */
  async forward(batch: StepBatch, into?: Float32Array): Promise<Float32Array> {
    return (await this.#step(batch, (logits) => this.#device.read(logits, into))) ?? new Float32Array(0);
  }

  /**
   * Gives the next tokens of the batch's `logitRows`, by row: the first of them, and those that follow it, `steps` in all. Undefined where the device can't
   * choose tokens: `forward` and a sampler do then. See `Device.choose`. @throws RangeError as `forward`, and where tokens can't be chosen so.
   */
  get generate():
    | ((batch: StepBatch, rows: readonly TokenChoice[], steps: number) => Promise<ChosenToken[][]>)
    | undefined {
    const choose = this.#device.choose?.bind(this.#device);
    if (choose === undefined) return undefined;
    return async (batch, rows, steps) => (await this.#step(batch, (logits) => choose(logits, rows, steps))) ?? [];
  }

  async #step<T>(batch: StepBatch, take: (logits: Space['logits']) => Promise<T>): Promise<T | undefined> {
    if (this.#fillingsOf([batch]).length > 0) throw new RangeError('a step with an expert that is still being loaded');
    return forward(this.#device, this.config, this.#params, this.#rope, [{ batch, space: this.#space }], take);
  }

  /**
   * The same for steps that follow each other, of experts that may still be coming in: all of them go through a layer as soon as it is in. Logits are
   * the last one's, once every expert is whole. Other steps may run meanwhile: it lets them, now and then.
   *
   * @throws RangeError as `forward`; what a filling fails with; the `signal`'s reason when it aborts.
   */
  async forwardArriving(batches: readonly StepBatch[], signal: AbortSignal): Promise<Float32Array> {
    const fillings = this.#fillingsOf(batches);
    const residuals = batches.map(
      () => this.#spareRows.pop() ?? this.#device.activations(this.#maxRows, this.config.hidden),
    );
    // Read when the logits' turn comes: an expert may have widened them.
    const model = this;
    const chunks = batches.map((batch, i) => ({
      batch,
      get space(): Space {
        return { ...model.#space, x: residuals[i] ?? model.#space.x };
      },
    }));
    let sliceBegan = performance.now();
    const end = stageCount(this.#params) - 1;
    const pause = (stage: number) => {
      const missing = fillings.flatMap((filling) => filling.ready(stage) ?? []);
      const isWhole = fillings.every((filling) => filling.has(end));
      const sliceMs = isWhole ? SLICE_MS.whole : SLICE_MS.arriving;
      if (missing.length === 0 && performance.now() < sliceBegan + sliceMs) return undefined;
      return abortable(Promise.all([turn(), ...missing]), signal).then(() => {
        sliceBegan = performance.now();
      });
    };
    try {
      const read = (logits: Space['logits']) => this.#device.read(logits);
      const logits = await forward(this.#device, this.config, this.#params, this.#rope, chunks, read, pause);
      return logits ?? new Float32Array(0);
    } finally {
      this.#spareRows.push(...residuals);
    }
  }

  #fillingsOf(batches: readonly StepBatch[]): SlotFilling[] {
    if (this.#fillings.size === 0) return [];
    const slots = new Set(batches.flatMap(({ mixtureSlots }) => [...mixtureSlots]));
    return [...slots].flatMap((slot) => this.#fillings.get(slot) ?? []);
  }

  /** A thread that used the model may end once this is fulfilled. */
  async close(): Promise<void> {
    await this.#device.close();
  }

  #setAdded(slot: number, rows: number): void {
    this.#added[slot] = rows;
    const width = this.config.vocabSize + Math.max(0, ...this.#added);
    if (width === this.#space.logits.cols) return;
    this.#space = { ...this.#space, logits: this.#device.resized(this.#space.logits, width) };
  }
}

function layoutOf(
  checkpoint: Checkpoint,
  params: ModelParams,
  { weights = 'bf16', maxRows, maxLogitRows, maxArriving = 0 }: ModelOptions,
): DeviceLayout {
  const { config } = checkpoint;
  const shapes = workspaceShapes(config, maxRows, maxLogitRows);
  const residuals = new Array<Activations>(maxArriving).fill(shapes.x);
  return {
    storage: params.specs.map((spec) => ({ dtype: checkpoint.param(spec).dtype, format: paramFormat(spec, weights) })),
    groups: params.layers.flatMap(groupsOf),
    sections: sectionsOf(params),
    rows: maxRows,
    heads: config.heads,
    scratch: {
      activations: [...Object.values(shapes), ...residuals],
      logits: shapes.logits,
      positions: config.maxPositions,
    },
  };
}

const ALIGNMENT = { BF16: 2, F32: 4 } as const;

/** Parameter by parameter, so that what has been copied to the device needn't stay in memory twice. */
async function loadParams(
  device: Device,
  checkpoint: Checkpoint,
  { specs }: ModelParams,
  { weights = 'bf16', residence = 'memory', onProgress }: ModelOptions,
): Promise<void> {
  const totalBytes = specs.reduce((sum, { name }) => sum + (checkpoint.tensors.get(name)?.info.bytes ?? 0), 0);
  let bytes = 0;
  for (const [index, spec] of specs.entries()) {
    const param = checkpoint.param(spec);
    const { dtype, source } = param;
    const format = paramFormat(spec, weights);
    const isInPlace =
      residence === 'files' && format === 'stored' && dtype !== 'F16' && (source?.offset ?? 1) % ALIGNMENT[dtype] === 0;
    if (isInPlace && source !== undefined && device.mapParam !== undefined) {
      device.mapParam(index, dtype, source);
    } else {
      device.loadParam(index, dtype, param.data, format);
      // What is on its way to a device needs room, too.
      await device.loaded();
      checkpoint.release(spec);
    }
    bytes += checkpoint.tensors.get(spec.name)?.info.bytes ?? 0;
    onProgress?.(bytes, totalBytes);
  }
}
