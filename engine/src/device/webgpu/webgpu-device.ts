/**
 * The WebGPU device: ops are recorded, joined (ops.ts), made into a plan the first time they are called in this order (plan.ts), and replayed from then on
 * in one pass and one submit a step.
 */
import { checkBatch } from '../check-batch.ts';
import type { ChosenToken, TokenChoice } from '../choice.ts';
import {
  type Device,
  type DeviceConfig,
  DeviceLost,
  type LinearLayer,
  type ParamDelta,
  type ParamDtype,
  type ParamFormat,
  type RopeTable,
  type StepBatch,
} from '../device.ts';
import type { Gpu } from './adapter.ts';
import { type Download, Downloads, UnderWay, Uploads } from './buffers.ts';
import { KvCache } from './kv-cache.ts';
import { type MemoryNeeds, type Sizes, type WebGpuOptions, withMemory } from './memory.ts';
import { codesOf, fuse, type Op, type WebGpuActivations } from './ops.ts';
import { type Plan, Plans } from './plan.ts';
import { addedRowsKernel, type Draft, draftsOf, type PlanParts, type PlanShape } from './plan-builder.ts';
import { DeviceSampler, type SamplerRun } from './sampling/device-sampler.ts';
import { Scratch, strideOf } from './scratch.ts';
import { Shaders } from './shader.ts';
import { Slots } from './slots.ts';
import { rowClassesOf, StepBuffer, type ViewIndex } from './step.ts';
import { StepChecks } from './step-checks.ts';
import { Weights } from './weights.ts';

type A = WebGpuActivations;

interface ViewPlan {
  readonly plan: Plan;
  readonly view: ViewIndex;
}

export class WebGpuDevice implements Device<A> {
  readonly name = 'webgpu';
  /** What was announced of memory, and taken. */
  readonly memory: MemoryNeeds;
  readonly #gpu: Gpu;
  readonly #config: DeviceConfig;
  readonly #rows: number;
  readonly #underWay = new UnderWay();
  readonly #uploads: Uploads;
  readonly #downloads: Downloads;
  readonly #weights: Weights;
  readonly #slots: Slots;
  readonly #kv: KvCache;
  readonly #step: StepBuffer;
  readonly #checks: StepChecks;
  readonly #scratch: Scratch;
  readonly #sampler: DeviceSampler;
  readonly #shaders: Shaders;
  readonly #parts: PlanParts;
  readonly #plans: Plans;
  #ops: Op[] = [];
  #batch: StepBatch | undefined;
  #view: ViewIndex = 0;
  #activations = 0;
  #fault: string | undefined;

  private constructor(gpu: Gpu, config: DeviceConfig, options: WebGpuOptions, sizes: Sizes) {
    this.memory = sizes.needs;
    this.#gpu = gpu;
    this.#config = config;
    this.#rows = options.rows;
    const { tuning, kvFormat } = sizes;
    this.#uploads = new Uploads(gpu, this.#underWay);
    this.#downloads = new Downloads(gpu, this.#underWay, sizes.downloads);
    this.#weights = new Weights(gpu, { specs: config.params, ...options }, this.#uploads);
    this.#slots = new Slots(gpu, sizes.slots, this.#uploads);
    this.#checks = new StepChecks(config, this.#slots);
    this.#kv = new KvCache(gpu, config.kv, kvFormat);
    this.#step = new StepBuffer(gpu, config, options.rows, {
      queryRows: tuning.queryRows(options.heads),
      tileRows: tuning.matmul.rows,
    });
    this.#scratch = new Scratch(gpu, sizes.scratch, config, sizes.splitFloats);
    const reduce = options.reduce ?? (gpu.features.subgroups === undefined ? 'workgroup' : 'subgroups');
    this.#shaders = Shaders.of(gpu, { reduce, kv: kvFormat });
    this.#parts = {
      config,
      tuning,
      weights: this.#weights,
      slots: this.#slots,
      kv: this.#kv,
      step: this.#step,
      angles: (table) => this.#angles(table).buffer,
      splits: this.#scratch.splits,
    };
    const makers = { gpu, shaders: this.#shaders, unused: (binding: number) => this.#scratch.unused(binding) };
    this.#plans = new Plans(makers, sizes.dispatches);
    this.#sampler = new DeviceSampler(gpu, this.#shaders, this.#step.buffer, sizes.sampler);
    void gpu.lost.then((fault) => {
      this.#fault = fault;
    });
  }

  /** The GPU is the device's from now on, to be closed with it. @throws Problem when what the sizes need is more than the budget, or than the GPU has; with the arithmetic. */
  static async open(gpu: Gpu, config: DeviceConfig, options: WebGpuOptions): Promise<WebGpuDevice> {
    return withMemory(gpu, config, options, (sizes) => new WebGpuDevice(gpu, config, options, sizes));
  }

  loadParam(param: number, dtype: ParamDtype, data: Uint8Array, format: ParamFormat): void {
    this.#flush();
    this.#weights.load(param, dtype, data, format);
  }

  get lost(): Promise<string> {
    return this.#gpu.lost;
  }

  get memoryBytes(): number {
    return this.memory.total;
  }

  get paramBytes(): number {
    return this.#weights.bytes;
  }

  checkRoom(...deltas: Parameters<Slots['checkRoom']>): void {
    this.#slots.checkRoom(...deltas);
  }

  loadDelta(slot: number, param: number, delta: ParamDelta): void {
    this.#flush();
    this.#slots.load(slot, param, delta);
  }

  clearSlot(slot: number): void {
    this.#flush();
    this.#slots.clear(slot);
  }

  loaded(): Promise<void> {
    return this.#uploads.settled();
  }

  activations(capacity: number, cols: number): A {
    const buffer = this.#scratch.activations({ capacity, cols });
    return { id: this.#activations++, capacity, cols, buffer, stride: strideOf(cols) };
  }

  resized(x: A, cols: number): A {
    this.#flush();
    this.#scratch.release(x.buffer);
    return this.activations(x.capacity, cols);
  }

  begin(batch: StepBatch): void {
    this.#flush();
    checkBatch(batch, this.#config);
    this.#step.write(batch);
    this.#batch = batch;
    this.#view = 0;
  }

  embed(out: A, param: number): void {
    this.#fits(out);
    this.#checks.tokens(this.#begun, this.#view, param);
    this.#record({ kind: 'embed', view: this.#view, out, param }, out);
  }

  rmsNorm(out: A, x: A, param: number, eps: number): void {
    const [length = 0] = this.#checks.shape(param);
    if (x.cols !== out.cols || x.cols % length !== 0)
      throw new RangeError(`a norm of ${length} values for ${x.cols} to ${out.cols} columns`);
    this.#record({ kind: 'norm', view: this.#view, out, x, param, eps }, out);
  }

  linears(x: A, layers: readonly LinearLayer<A>[]): void {
    this.#checks.layers(x, layers);
    for (const { out } of layers) this.#fits(out);
    this.#record({ kind: 'linears', view: this.#view, x, layers }, x);
  }

  head(out: A, x: A, param: number): void {
    this.#fits(out);
    this.#checks.outputs(this.#begun, this.#view, param, x, out);
    this.#record({ kind: 'head', view: this.#view, out, x, param }, out);
  }

  rope(x: A, table: RopeTable): void {
    this.#checks.positions(this.#begun, this.#view, table);
    this.#record({ kind: 'rope', view: this.#view, out: x, table, tableId: this.#angles(table).id }, x);
  }

  storeKv(layer: number, keys: A, values: A): void {
    this.#record({ kind: 'store', view: this.#view, layer, keys, values }, keys);
  }

  attention(out: A, queries: A, layer: number, scale: number, window: number): void {
    if (this.#view !== 0) throw new Error('attention acts on all rows of a step: before gather');
    this.#record({ kind: 'attention', view: 0, out, queries, layer, scale, window }, out);
  }

  swiglu(out: A, gate: A, up: A): void {
    this.#record({ kind: 'swiglu', view: this.#view, out, gate, up }, out);
  }

  add(x: A, y: A): void {
    this.#record({ kind: 'add', view: this.#view, out: x, x: y }, x);
  }

  gather(out: A, x: A): void {
    if (out === x) throw new Error('rows are gathered into another buffer');
    this.#view = 1;
    this.#record({ kind: 'gather', view: 1, out, x }, out);
  }

  write(x: A, values: Float32Array): void {
    this.#flush();
    const { rows } = this.#step.views[this.#view];
    const padded = new Float32Array(rows * x.stride);
    for (let row = 0; row < rows; row++) padded.set(values.subarray(row * x.cols, (row + 1) * x.cols), row * x.stride);
    this.#gpu.device.queue.writeBuffer(x.buffer, 0, padded);
  }

  async read(x: A, into?: Float32Array): Promise<Float32Array> {
    const { rows } = this.#step.views[this.#view];
    const size = rows * x.cols;
    if (into !== undefined && into.length < size)
      throw new RangeError(`${size} values are read, there is room for ${into.length}`);
    const out = into?.subarray(0, size) ?? new Float32Array(size);
    const take = (values: Float32Array) => {
      for (let row = 0; row < rows; row++)
        out.set(values.subarray(row * x.stride, row * x.stride + x.cols), row * x.cols);
    };
    if (rows > 0) {
      const plans = this.#takePlans();
      const encoder = this.#gpu.device.createCommandEncoder();
      this.#encode(encoder, plans);
      const download = this.#downloads.copy(encoder, x.buffer, rows * x.stride * 4);
      this.#gpu.device.queue.submit([encoder.finish()]);
      await this.#readable(download.read(take));
    }
    this.#checkFault();
    return out;
  }

  /** Nothing but the device's end keeps a buffer from being read. */
  async #readable<T>(reading: Promise<T>): Promise<T> {
    try {
      return await reading;
    } catch (cause) {
      throw new DeviceLost(this.#fault ?? 'the GPU was lost while it was read from', { cause });
    }
  }

  async choose(logits: A, rows: readonly TokenChoice[], steps: number): Promise<ChosenToken[][]> {
    const { tokens, logitRows, ahead = 0 } = this.#begun;
    if (rows.length !== logitRows.length)
      throw new RangeError(`${rows.length} tokens to choose, the batch has logits of ${logitRows.length} rows`);
    if (steps > 1 && (this.#step.views[0].kind !== 'decode' || rows.length !== tokens.length || ahead < steps - 1))
      throw new RangeError(
        'several steps at once need a batch of one row of each sequence, with logits and room ahead',
      );
    const plans = this.#takePlans();
    if (plans.length === 0 && steps > 1) throw new Error('the ops of the step were submitted before');
    const run = this.#sampler.begin(logits, rows, steps);
    const { device } = this.#gpu;
    let download: Download | undefined;
    // Each on its own, so that the first is computed while the next is put together.
    for (let step = 1; step <= steps; step++) {
      const encoder = device.createCommandEncoder();
      this.#encode(encoder, plans, run);
      if (step === steps) download = run.copy(encoder, this.#downloads);
      device.queue.submit([encoder.finish()]);
    }
    const chosen = download === undefined ? [] : await this.#readable(run.read(download));
    this.#checkFault();
    return chosen;
  }

  async warmUp(logits: A, onProgress?: (compiled: number, total: number) => void): Promise<void> {
    const ofView = [0, 1].map((view) => this.#ops.filter((op) => op.view === view));
    const shapes = rowClassesOf(this.#rows).flatMap((rowClass) => [
      { view: 0, rowClass, kind: 'decode' } as const,
      // One row alone is one sequence's.
      ...(rowClass === 1 ? [] : [{ view: 0, rowClass, kind: 'mixed' } as const]),
    ]);
    const ofLogits = rowClassesOf(logits.capacity).map((rowClass) => ({ view: 1, rowClass, kind: 'decode' }) as const);
    const all = [...shapes, ...ofLogits].map(({ view, ...shape }) => {
      const ops = ofView[view] ?? [];
      return { key: planKey(shape, ops), drafts: this.#drafts(shape, ops) };
    });
    const ofSteps = all.flatMap(({ drafts }) => drafts.map(({ kernel }) => kernel));
    const kernels = [...ofSteps, addedRowsKernel(this.#parts.tuning), ...this.#sampler.kernels];
    await this.#underWay.track(this.#shaders.compile(kernels, onProgress));
    this.#checkFault();
    for (const { key, drafts } of all) this.#plans.keep(key, drafts);
    this.#sampler.prepare(logits);
  }

  /** What is being read from it fails. */
  async close(): Promise<void> {
    this.#fault ??= 'the device is closed';
    this.#ops = [];
    for (const part of [this.#plans, this.#weights, this.#slots, this.#kv, this.#step, this.#sampler]) part.close();
    for (const part of [this.#scratch, this.#uploads, this.#downloads]) part.close();
    this.#gpu.close();
    await this.#underWay.settled();
  }

  #checkFault(): void {
    if (this.#fault !== undefined) throw new DeviceLost(this.#fault);
  }

  get #begun(): StepBatch {
    if (this.#batch === undefined) throw new Error('no step has begun');
    return this.#batch;
  }

  #record(op: Op, out: A): void {
    if (this.#batch === undefined) throw new Error('no step has begun');
    this.#fits(out);
    this.#ops.push(op);
  }

  #fits({ capacity }: A): void {
    const { rows } = this.#step.views[this.#view];
    if (rows > capacity) throw new RangeError(`there is room for ${capacity} rows, the step has ${rows}`);
  }

  /** Submits what was recorded. */
  #flush(): void {
    const plans = this.#takePlans();
    if (plans.length === 0) return;
    const { device } = this.#gpu;
    const encoder = device.createCommandEncoder();
    this.#encode(encoder, plans);
    device.queue.submit([encoder.finish()]);
  }

  /** In one pass: what a dispatch has written the next one reads. */
  #encode(encoder: GPUCommandEncoder, plans: readonly ViewPlan[], run?: SamplerRun): void {
    if (plans.length === 0 && run === undefined) return;
    const pass = encoder.beginComputePass();
    for (const { plan, view } of plans) plan.encode(pass, this.#step.views[view]);
    run?.encode(pass);
    pass.end();
  }

  /** Plans of what was recorded, which is then forgotten; none where there is nothing to compute. */
  #takePlans(): ViewPlan[] {
    if (this.#ops.length === 0) return [];
    const ops = this.#ops;
    this.#ops = [];
    this.#checkFault();
    return ([0, 1] as const).flatMap((view) => {
      const shape = this.#step.views[view];
      const own = ops.filter((op) => op.view === view);
      if (shape.rows === 0 || own.length === 0) return [];
      return { view, plan: this.#plans.of(planKey(shape, own), () => this.#drafts(shape, own)) };
    });
  }

  #drafts(shape: PlanShape, ops: readonly Op[]): readonly Draft[] {
    const commands = fuse(ops, (params) => this.#weights.areTogether(params));
    return draftsOf(commands, shape, this.#parts);
  }

  #angles(table: RopeTable): { readonly id: number; readonly buffer: GPUBuffer } {
    return this.#scratch.angles(table, (buffer, parts) => {
      this.#uploads.writeLarge(buffer, 0, buffer.size, (data) => {
        let end = 0;
        for (const { buffer: source, byteOffset, byteLength } of parts) {
          data.set(new Uint8Array(source, byteOffset, byteLength), end);
          end += byteLength;
        }
      });
    });
  }
}

/** What two lists of ops have in common when one plan does for both. */
function planKey({ kind, rowClass }: PlanShape, ops: readonly Op[]): string {
  return `${kind} ${rowClass} ${ops.flatMap(codesOf).join(' ')}`;
}
