/**
 * The CPU device: every op runs at once, in the native kernels.
 */
import { activationStride, type InstructionSet, NATIVE_DTYPE, NATIVE_FORMAT, NativeDevice } from '@signpost/kernels';
import type {
  Activations,
  Device,
  DeviceConfig,
  LinearLayer,
  ParamDelta,
  ParamDtype,
  ParamFormat,
  ParamSource,
  RopeTable,
  StepBatch,
} from '../device.ts';

export interface CpuActivations extends Activations {
  readonly data: Float32Array; // (capacity, activationStride(cols)), zero beyond cols
}

export class CpuDevice implements Device<CpuActivations> {
  readonly name = 'cpu';
  readonly #native: NativeDevice;
  /** Parameters that each slot has a delta for. */
  readonly #slots: Set<number>[];
  /** Rows that ops act on: the batch's, then after `gather` its logit rows. */
  #rows = 0;
  #logitRows = 0;

  constructor(config: DeviceConfig, instructionSet?: InstructionSet) {
    const shapes = Int32Array.from(config.params.flatMap(({ shape: [out, inDim = 0] }) => [out, inDim]));
    const { layers, blocks, blockTokens, kvHeads, headDim } = config.kv;
    this.#native = new NativeDevice(
      shapes,
      config.slots,
      Int32Array.of(layers, blocks, blockTokens, kvHeads, headDim),
      instructionSet,
    );
    this.#slots = Array.from({ length: config.slots }, () => new Set());
  }

  loadParam(param: number, dtype: ParamDtype, data: Uint8Array, format: ParamFormat): void {
    this.#native.loadParam(param, NATIVE_DTYPE[dtype], aligned(data, dtype === 'F32' ? 4 : 2), NATIVE_FORMAT[format]);
  }

  mapParam(param: number, dtype: ParamDtype, { path, offset }: ParamSource): void {
    this.#native.mapParam(param, NATIVE_DTYPE[dtype], path, offset);
  }

  settle(): Promise<number> {
    return this.#native.settle();
  }

  get paramBytes(): number {
    return this.#native.paramBytes();
  }

  loadDelta(slot: number, param: number, delta: ParamDelta): void {
    const held = this.#slot(slot);
    this.#native.clearParam(slot, param);
    held.delete(param);
    try {
      for (const { signs, rowScale, colScale } of delta.planes) {
        this.#native.addPlane(slot, param, signs, rowScale, colScale);
      }
      if (delta.exact !== undefined) this.#native.addExact(slot, param, delta.exact);
      if (delta.added !== undefined) this.#native.addRows(slot, param, delta.added);
    } catch (error) {
      this.#native.clearParam(slot, param);
      throw error;
    }
    held.add(param);
  }

  async loaded(): Promise<void> {}

  clearSlot(slot: number): void {
    const held = this.#slot(slot);
    for (const param of held) this.#native.clearParam(slot, param);
    held.clear();
  }

  activations(capacity: number, cols: number): CpuActivations {
    return { capacity, cols, data: new Float32Array(capacity * activationStride(cols)) };
  }

  resized({ capacity }: CpuActivations, cols: number): CpuActivations {
    return this.activations(capacity, cols);
  }

  begin(batch: StepBatch): void {
    this.#native.begin(
      batch.tokens,
      batch.positions,
      batch.sequenceStart,
      batch.blockTable,
      batch.blocksPerSequence,
      batch.mixtureStart,
      batch.mixtureSlots,
      batch.mixtureWeights,
      batch.logitRows,
    );
    this.#rows = batch.tokens.length;
    this.#logitRows = batch.logitRows.length;
  }

  embed(out: CpuActivations, param: number): void {
    this.#native.embed(out.data, out.cols, param);
  }

  rmsNorm(out: CpuActivations, x: CpuActivations, param: number, eps: number): void {
    this.#native.rmsNorm(out.data, x.data, x.cols, param, eps);
  }

  linears(x: CpuActivations, layers: readonly LinearLayer<CpuActivations>[]): void {
    const flat: (Float32Array | number)[] = [];
    for (const { out, param, bias = -1 } of layers) flat.push(out.data, out.cols, param, bias);
    this.#native.linears(x.data, x.cols, ...flat);
  }

  head(out: CpuActivations, x: CpuActivations, param: number): void {
    this.#native.head(out.data, out.cols, x.data, x.cols, param);
  }

  rope(x: CpuActivations, { cos, sin, headDim }: RopeTable): void {
    this.#native.rope(x.data, x.cols, cos, sin, headDim);
  }

  storeKv(layer: number, keys: CpuActivations, values: CpuActivations): void {
    this.#native.storeKv(layer, keys.data, values.data);
  }

  attention(out: CpuActivations, queries: CpuActivations, layer: number, scale: number, window: number): void {
    this.#native.attention(out.data, queries.data, queries.cols, layer, scale, window);
  }

  swiglu(out: CpuActivations, gate: CpuActivations, up: CpuActivations): void {
    this.#native.swiglu(out.data, gate.data, up.data, gate.cols);
  }

  add(x: CpuActivations, y: CpuActivations): void {
    this.#native.add(x.data, y.data, x.cols);
  }

  gather(out: CpuActivations, x: CpuActivations): void {
    this.#native.gather(out.data, x.data, x.cols);
    this.#rows = this.#logitRows;
  }

  write(x: CpuActivations, values: Float32Array): void {
    const stride = activationStride(x.cols);
    for (let row = 0; row < this.#rows; row++)
      x.data.set(values.subarray(row * x.cols, (row + 1) * x.cols), row * stride);
  }

  async read(x: CpuActivations, into?: Float32Array): Promise<Float32Array> {
    const stride = activationStride(x.cols);
    const out = into?.subarray(0, this.#rows * x.cols) ?? new Float32Array(this.#rows * x.cols);
    if (stride === x.cols) {
      out.set(x.data.subarray(0, this.#rows * x.cols));
      return out;
    }
    for (let row = 0; row < this.#rows; row++) {
      out.set(x.data.subarray(row * stride, row * stride + x.cols), row * x.cols);
    }
    return out;
  }

  close(): void {
    this.#native.close();
  }

  #slot(slot: number): Set<number> {
    const held = this.#slots[slot];
    if (held === undefined) throw new RangeError(`slot ${slot} does not exist; there are ${this.#slots.length}`);
    return held;
  }
}

/** Writers other than ours may leave tensors at odd offsets: those are copied. */
function aligned(data: Uint8Array, elementBytes: number): Uint8Array {
  return data.byteOffset % elementBytes === 0 ? data : data.slice();
}
