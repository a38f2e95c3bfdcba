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
import { Downloads, UnderWay, Uploads, USAGE } from './buffers.ts';
import { KvCache } from './kv-cache.ts';
import { memoryNeeds, type WebGpuOptions, withMemory } from './memory.ts';
import { codesOf, fuse, type Op, type WebGpuActivations } from './ops.ts';
import { GROUP_COLUMNS } from './pack.ts';
import { Plan, type PlanParts } from './plan.ts';
import { DeviceSampler } from './sampling/device-sampler.ts';
import { Shaders } from './shader.ts';
import { Slots } from './slots.ts';
import { StepBuffer, type ViewIndex } from './step.ts';
import { Tuning } from './tuning.ts';
import { Weights } from './weights.ts';

type A = WebGpuActivations;

/** Beyond so many, plans that were not used for longest go: logits that became wider leave some behind. */
const MOST_PLANS = 256;

export class WebGpuDevice implements Device<A> {
  readonly name = 'webgpu';
  readonly #gpu: Gpu;
  readonly #config: DeviceConfig;
  readonly #underWay = new UnderWay();
  readonly #uploads: Uploads;
  readonly #downloads: Downloads;
  readonly #weights: Weights;
  readonly #slots: Slots;
  readonly #kv: KvCache;
  readonly #step: StepBuffer;
  readonly #sampler: DeviceSampler;
  readonly #parts: PlanParts;
  readonly #tables = new Map<Float32Array, { readonly id: number; readonly buffer: GPUBuffer }>();
  readonly #unused = new Map<number, GPUBuffer>();
  /** By the ops' codes. */
  readonly #plans = new Map<string, Plan>();
  #ops: Op[] = [];
  #batch: StepBatch | undefined;
  #view: ViewIndex = 0;
  #activations = 0;
  #fault: string | undefined;

  private constructor(gpu: Gpu, config: DeviceConfig, options: WebGpuOptions) {
    this.#gpu = gpu;
    this.#config = config;
    const { device } = gpu;
    const kvFormat = options.kvFormat ?? (gpu.features.f16 ? 'f16' : 'f32');
    const tuning = new Tuning(gpu, config, options.measured ?? { matvec: {}, matmul: 'matmul' });
    this.#uploads = new Uploads(gpu, this.#underWay);
    this.#downloads = new Downloads(gpu, this.#underWay);
    this.#weights = new Weights(gpu, { specs: config.params, ...options }, this.#uploads);
    const slots = {
      specs: config.params,
      slots: config.slots,
      slotBytes: memoryNeeds(config, options, kvFormat).slotBytes,
    };
    this.#slots = new Slots(gpu, { ...slots, sections: options.sections }, this.#uploads);
    this.#kv = new KvCache(gpu, config.kv, kvFormat);
    this.#step = new StepBuffer(gpu, config, options.rows, tuning.queryRows(options.heads));
    const reduce = options.reduce ?? (gpu.features.subgroups === undefined ? 'workgroup' : 'subgroups');
    this.#parts = {
      gpu,
      config,
      shaders: Shaders.of(gpu, { reduce, kv: kvFormat }),
      tuning,
      weights: this.#weights,
      slots: this.#slots,
      kv: this.#kv,
      step: this.#step,
      angles: (table) => this.#table(table).buffer,
      splits: device.createBuffer({
        label: 'splits of attention',
        size: tuning.splitFloats(options.heads) * 4,
        usage: USAGE.storage,
      }),
      unused: (binding) => this.#standIn(binding),
    };
    this.#sampler = new DeviceSampler(gpu, this.#parts.shaders, this.#step.buffer);
    void gpu.lost.then((fault) => {
      this.#fault = fault;
    });
  }

  /** The GPU is the device's from now on, to be closed with it. @throws Problem when what the sizes need is more than the budget, or than the GPU has; with the arithmetic. */
  static async open(gpu: Gpu, config: DeviceConfig, options: WebGpuOptions): Promise<WebGpuDevice> {
    return withMemory(gpu, config, options, () => new WebGpuDevice(gpu, config, options));
  }

  loadParam(param: number, dtype: ParamDtype, data: Uint8Array, format: ParamFormat): void {
    this.#flush();
    this.#weights.load(param, dtype, data, format);
  }

  get lost(): Promise<string> {
    return this.#gpu.lost;
  }

  get paramBytes(): number {
    return this.#weights.bytes;
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
    const stride = Math.ceil(cols / GROUP_COLUMNS) * GROUP_COLUMNS;
    const buffer = this.#gpu.device.createBuffer({
      label: `activations (${capacity}, ${cols})`,
      size: Math.max(capacity, 1) * stride * 4,
      usage: USAGE.storage | USAGE.copySource | USAGE.copyTarget,
    });
    return { id: this.#activations++, capacity, cols, buffer, stride };
  }

  begin(batch: StepBatch): void {
    this.#flush();
    checkBatch(batch, this.#config);
    this.#step.write(batch);
    this.#batch = batch;
    this.#view = 0;
  }

  embed(out: A, param: number): void {
    const { tokens } = this.#begun;
    this.#fits(out);
    const [rows = 0] = this.#shape(param);
    this.#eachRow((row) => {
      const token = tokens[row] ?? -1;
      if (token >= rows && token >= rows + this.#addedRows(param, row))
        throw new RangeError(`row ${row}: token ${token} does not exist`);
    });
    this.#record({ kind: 'embed', view: this.#view, out, param }, out);
  }

  rmsNorm(out: A, x: A, param: number, eps: number): void {
    const [length = 0] = this.#shape(param);
    if (x.cols !== out.cols || x.cols % length !== 0)
      throw new RangeError(`a norm of ${length} values for ${x.cols} to ${out.cols} columns`);
    this.#record({ kind: 'norm', view: this.#view, out, x, param, eps }, out);
  }

  linears(x: A, layers: readonly LinearLayer<A>[]): void {
    for (const { out, param } of layers) {
      const [outputs, inDim] = this.#shape(param);
      if (outputs !== out.cols || inDim !== x.cols)
        throw new RangeError(
          `parameter ${param} is (${outputs}, ${inDim}), the activations are ${x.cols} to ${out.cols}`,
        );
      this.#fits(out);
    }
    this.#record({ kind: 'linears', view: this.#view, x, layers }, x);
  }

  head(out: A, x: A, param: number): void {
    const [outputs = 0, inDim] = this.#shape(param);
    if (outputs > out.cols || inDim !== x.cols)
      throw new RangeError(
        `parameter ${param} is (${outputs}, ${inDim}), the activations are ${x.cols} to ${out.cols}`,
      );
    this.#fits(out);
    this.#eachRow((row) => {
      const own = outputs + this.#addedRows(param, row);
      if (own > out.cols) throw new RangeError(`row ${row} has ${own} outputs, there is room for ${out.cols}`);
    });
    this.#record({ kind: 'head', view: this.#view, out, x, param }, out);
  }

  rope(x: A, table: RopeTable): void {
    if (table.headDim !== this.#config.kv.headDim)
      throw new RangeError(`angles of heads of ${table.headDim} values, the cache's have ${this.#config.kv.headDim}`);
    const positions = table.cos.length / (table.headDim / 2);
    this.#eachRow((row) => {
      const position = (this.#begun.positions[row] ?? 0) + (this.#begun.ahead ?? 0);
      if (position >= positions)
        throw new RangeError(`row ${row}: position ${position}, there are angles for ${positions}`);
    });
    this.#record({ kind: 'rope', view: this.#view, out: x, table, tableId: this.#table(table).id }, x);
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
    this.#flush();
    const { rows } = this.#step.views[this.#view];
    const size = rows * x.cols;
    if (into !== undefined && into.length < size)
      throw new RangeError(`${size} values are read, there is room for ${into.length}`);
    const out = into?.subarray(0, size) ?? new Float32Array(size);
    const take = (values: Float32Array) => {
      for (let row = 0; row < rows; row++)
        out.set(values.subarray(row * x.stride, row * x.stride + x.cols), row * x.cols);
    };
    if (rows > 0) await this.#readable(this.#downloads.read(x.buffer, rows * x.stride * 4, take));
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
    const plan = this.#takePlan();
    if (plan === undefined && steps > 1) throw new Error('the ops of the step were submitted before');
    const run = this.#sampler.begin(logits, rows, steps);
    const { device } = this.#gpu;
    // Each on its own, so that the first is computed while the next is put together.
    for (let step = 0; step < steps; step++) {
      const encoder = device.createCommandEncoder();
      plan?.encode(encoder, this.#step.views);
      run.encode(encoder);
      device.queue.submit([encoder.finish()]);
    }
    const chosen = await this.#readable(run.read(this.#downloads));
    this.#checkFault();
    return chosen;
  }

  /** What is being read from it fails. */
  async close(): Promise<void> {
    this.#fault ??= 'the device is closed';
    this.#ops = [];
    for (const plan of this.#plans.values()) plan.close();
    this.#plans.clear();
    this.#weights.close();
    this.#slots.close();
    this.#kv.close();
    this.#sampler.close();
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
    const plan = this.#takePlan();
    if (plan === undefined) return;
    const { device } = this.#gpu;
    const encoder = device.createCommandEncoder();
    plan.encode(encoder, this.#step.views);
    device.queue.submit([encoder.finish()]);
  }

  /** The plan of what was recorded, which is then forgotten; undefined where there is nothing to compute. */
  #takePlan(): Plan | undefined {
    if (this.#ops.length === 0) return undefined;
    const ops = this.#ops;
    this.#ops = [];
    this.#checkFault();
    const [all, last] = this.#step.views;
    if (all.rows === 0) return undefined;
    const kept = last.rows === 0 ? ops.filter(({ view }) => view === 0) : ops;
    const key = `${all.kind} ${all.rowClass} ${last.rowClass} ${kept.flatMap(codesOf).join(' ')}`;
    const found = this.#plans.get(key);
    if (found !== undefined) return found;
    const plan = Plan.of(
      fuse(kept, (params) => this.#weights.areTogether(params)),
      this.#parts,
    );
    const [oldest] = this.#plans;
    if (this.#plans.size >= MOST_PLANS && oldest !== undefined) {
      this.#plans.delete(oldest[0]);
      oldest[1].close();
    }
    this.#plans.set(key, plan);
    return plan;
  }

  #shape(param: number): readonly number[] {
    const spec = this.#config.params[param];
    if (spec === undefined)
      throw new RangeError(`parameter ${param} does not exist; there are ${this.#config.params.length}`);
    return spec.shape;
  }

  /** Batch rows that ops act on. */
  #eachRow(task: (row: number) => void): void {
    const { tokens, logitRows } = this.#begun;
    if (this.#view === 1) logitRows.forEach(task);
    else for (let row = 0; row < tokens.length; row++) task(row);
  }

  /** Rows that a row's mixture adds to a parameter. */
  #addedRows(param: number, row: number): number {
    const { mixtureStart, mixtureSlots } = this.#begun;
    let rows = 0;
    for (let term = mixtureStart[row] ?? 0; term < (mixtureStart[row + 1] ?? 0); term++) {
      const added = this.#slots.addedRows(mixtureSlots[term] ?? -1, param);
      if (added > 0 && rows > 0)
        throw new RangeError(`row ${row}: two experts of its mixture add rows to parameter ${param}`);
      rows += added;
    }
    return rows;
  }

  #table({ cos, sin }: RopeTable): { readonly id: number; readonly buffer: GPUBuffer } {
    const found = this.#tables.get(cos);
    if (found !== undefined) return found;
    const { device } = this.#gpu;
    const size = cos.byteLength + sin.byteLength;
    const buffer = device.createBuffer({ label: 'angles', size, usage: USAGE.storage | USAGE.copyTarget });
    this.#uploads.writeLarge(buffer, 0, size, (data) => {
      data.set(new Uint8Array(cos.buffer, cos.byteOffset, cos.byteLength));
      data.set(new Uint8Array(sin.buffer, sin.byteOffset, sin.byteLength), cos.byteLength);
    });
    const table = { id: this.#tables.size, buffer };
    this.#tables.set(cos, table);
    return table;
  }

  #standIn(binding: number): GPUBuffer {
    let buffer = this.#unused.get(binding);
    if (buffer === undefined) {
      buffer = this.#gpu.device.createBuffer({ label: `unused ${binding}`, size: 256, usage: USAGE.storage });
      this.#unused.set(binding, buffer);
    }
    return buffer;
  }
}
