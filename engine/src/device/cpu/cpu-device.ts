/**
 * The CPU device: ops run in the native kernels, at once but for linear layers, which wait for the next op: what adds their output to a stream, or gates it, then
 * comes with them, on the thread that has it in its cache.
 */
import {
  activationStride,
  type InstructionSet,
  NATIVE_DTYPE,
  NATIVE_EPILOGUE,
  NATIVE_FORMAT,
  NativeDevice,
} from '@signpost/kernels';
import { checkLayers } from '../check-layers.ts';
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

interface Linears {
  readonly x: CpuActivations;
  readonly layers: readonly LinearLayer<CpuActivations>[];
}

export class CpuDevice implements Device<CpuActivations> {
  readonly name = 'cpu';
  readonly #native: NativeDevice;
  readonly #params: DeviceConfig['params'];
  /** Parameters that each slot has a delta for. */
  readonly #slots: Set<number>[];
  /** Rows that ops act on: the batch's, then after `gather` its logit rows. */
  #rows = 0;
  #logitRows = 0;
  #waiting: Linears | undefined;

  constructor(config: DeviceConfig, instructionSet?: InstructionSet) {
    this.#params = config.params;
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
    this.#flush();
    this.#native.loadParam(param, NATIVE_DTYPE[dtype], aligned(data, dtype === 'F32' ? 4 : 2), NATIVE_FORMAT[format]);
  }

  mapParam(param: number, dtype: ParamDtype, { path, offset }: ParamSource): void {
    this.#flush();
    this.#native.mapParam(param, NATIVE_DTYPE[dtype], path, offset);
  }

  settle(): Promise<number> {
    return this.#native.settle();
  }

  get paramBytes(): number {
    return this.#native.paramBytes();
  }

  loadDelta(slot: number, param: number, delta: ParamDelta): void {
    this.#flush();
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
    this.#flush();
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
    this.#flush();
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
    this.#flush();
    this.#native.embed(out.data, out.cols, param);
  }

  rmsNorm(out: CpuActivations, x: CpuActivations, param: number, eps: number): void {
    this.#flush();
    this.#native.rmsNorm(out.data, x.data, x.cols, param, eps);
  }

  linears(x: CpuActivations, layers: readonly LinearLayer<CpuActivations>[]): void {
    this.#flush();
    checkLayers(this.#params, x, layers);
    this.#waiting = { x, layers };
  }

  /** Runs linear layers that wait. */
  #flush(): void {
    const waiting = this.#waiting;
    if (waiting !== undefined) this.#linears(waiting, 'none');
  }

  #linears({ x, layers }: Linears, epilogue: keyof typeof NATIVE_EPILOGUE, target?: CpuActivations): void {
    this.#waiting = undefined;
    const flat: (Float32Array | number)[] = [];
    for (const { out, param, bias = -1 } of layers) flat.push(out.data, out.cols, param, bias);
    this.#native.linears(x.data, x.cols, NATIVE_EPILOGUE[epilogue], target?.data, target?.cols ?? 0, ...flat);
  }

  /** Those that wait, if their outputs are these and nothing reads what the epilogue changes. */
  #waitingFor(outputs: readonly CpuActivations[], target: CpuActivations): Linears | undefined {
    const waiting = this.#waiting;
    if (waiting === undefined || waiting.x === target || waiting.layers.length !== outputs.length) return undefined;
    return waiting.layers.every(({ out }, i) => out === outputs[i]) ? waiting : undefined;
  }

  head(out: CpuActivations, x: CpuActivations, param: number): void {
    this.#flush();
    this.#native.head(out.data, out.cols, x.data, x.cols, param);
  }

  rope(x: CpuActivations, { cos, sin, headDim }: RopeTable): void {
    this.#flush();
    this.#native.rope(x.data, x.cols, cos, sin, headDim);
  }

  storeKv(layer: number, keys: CpuActivations, values: CpuActivations): void {
    this.#flush();
    this.#native.storeKv(layer, keys.data, values.data);
  }

  attention(out: CpuActivations, queries: CpuActivations, layer: number, scale: number, window: number): void {
    this.#flush();
    this.#native.attention(out.data, queries.data, queries.cols, layer, scale, window);
  }

  swiglu(out: CpuActivations, gate: CpuActivations, up: CpuActivations): void {
    const waiting = this.#waitingFor([gate, up], out);
    if (waiting !== undefined) {
      this.#linears(waiting, 'swiglu', out);
      return;
    }
    this.#flush();
    this.#native.swiglu(out.data, gate.data, up.data, gate.cols);
  }

  add(x: CpuActivations, y: CpuActivations): void {
    const waiting = this.#waitingFor([y], x);
    if (waiting !== undefined) {
      this.#linears(waiting, 'add', x);
      return;
    }
    this.#flush();
    this.#native.add(x.data, y.data, x.cols);
  }

  gather(out: CpuActivations, x: CpuActivations): void {
    this.#flush();
    this.#native.gather(out.data, x.data, x.cols);
    this.#rows = this.#logitRows;
  }

  write(x: CpuActivations, values: Float32Array): void {
    this.#flush();
    const stride = activationStride(x.cols);
    for (let row = 0; row < this.#rows; row++)
      x.data.set(values.subarray(row * x.cols, (row + 1) * x.cols), row * stride);
  }

  async read(x: CpuActivations, into?: Float32Array): Promise<Float32Array> {
    this.#flush();
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
