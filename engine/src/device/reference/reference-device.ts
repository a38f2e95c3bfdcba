/**
 * The reference device: plain TypeScript, slow and obvious. It defines what each op means; every other device is tested against it.
 *
 * Sums are taken in float64, results stored as float32. Nothing is fused, blocked or cached: an expert's planes become a plain matrix.
 */
import { checkBatch } from '../check-batch.ts';
import { checkLayers, misfit } from '../check-layers.ts';
import type {
  Activations,
  Device,
  DeviceConfig,
  LinearLayer,
  ParamDelta,
  ParamDtype,
  ParamFormat,
  RopeTable,
  StepBatch,
} from '../device.ts';
import { brainToFloat, halfToFloat } from '../float.ts';
import { quantized } from '../quantize.ts';

export interface ReferenceActivations extends Activations {
  readonly data: Float32Array; // (capacity, cols)
}

/** A parameter's delta without its packing. */
interface PlainDelta {
  readonly sum: Float64Array; // (out, in): planes and exact difference
  readonly added: Float64Array; // (k, in)
}

/** A step under way: its batch, and the batch row behind each row that ops act on. */
interface Step {
  readonly batch: StepBatch;
  readonly rows: Int32Array;
}

export class ReferenceDevice implements Device<ReferenceActivations> {
  readonly name = 'reference';
  readonly #config: DeviceConfig;
  readonly #params = new Map<number, Float32Array>();
  readonly #slots: Map<number, PlainDelta>[]; // by slot and parameter
  readonly #keys: Float32Array[]; // [layer] (blocks, blockTokens, kvHeads, headDim)
  readonly #values: Float32Array[];
  #current: Step | undefined;

  constructor(config: DeviceConfig) {
    this.#config = config;
    this.#slots = Array.from({ length: config.slots }, () => new Map());
    const { layers, blocks, blockTokens, kvHeads, headDim } = config.kv;
    const cache = () =>
      Array.from({ length: layers }, () => new Float32Array(blocks * blockTokens * kvHeads * headDim));
    this.#keys = cache();
    this.#values = cache();
  }

  loadParam(param: number, dtype: ParamDtype, data: Uint8Array, format: ParamFormat): void {
    const values = decode(dtype, data);
    const { out, inDim } = this.#shape(param);
    if (values.length !== out * inDim)
      throw new RangeError(`parameter ${param} has ${values.length} values, its shape needs ${out * inDim}`);
    if (format !== 'stored' && this.#config.params[param]?.shape.length === 1)
      throw new RangeError(`parameter ${param} is a vector; only a matrix can be ${format}`);
    this.#params.set(param, format === 'stored' ? values : quantized(values, inDim, format));
  }

  get paramBytes(): number {
    return [...this.#params.values()].reduce((sum, { byteLength }) => sum + byteLength, 0);
  }

  loadDelta(slot: number, param: number, delta: ParamDelta): void {
    const { out, inDim } = this.#shape(param);
    const words = Math.ceil(inDim / 32);
    const sum = new Float64Array(out * inDim);
    for (const { signs, rowScale, colScale } of delta.planes) {
      const fits =
        signs.length === out * words &&
        (rowScale.length === out || rowScale.length === 1) &&
        (colScale?.length ?? inDim) === inDim;
      if (!fits) throw new RangeError(`a plane doesn't fit parameter ${param}, which is (${out}, ${inDim})`);
      sum.forEach((value, index) => {
        const [row, col] = [Math.floor(index / inDim), index % inDim];
        const bit = (at(signs, row * words + (col >> 5)) >>> (col & 31)) & 1;
        const scale = at(rowScale, rowScale.length === 1 ? 0 : row) * (colScale === undefined ? 1 : at(colScale, col));
        sum[index] = value + (bit === 1 ? scale : -scale);
      });
    }
    if (delta.exact !== undefined) {
      if (delta.exact.length !== sum.length)
        throw new RangeError(`the exact difference doesn't fit parameter ${param}, which is (${out}, ${inDim})`);
      delta.exact.forEach((bits, index) => {
        sum[index] = at(sum, index) + brainToFloat(bits);
      });
    }
    const added = Float64Array.from(delta.added ?? [], brainToFloat);
    if (added.length % inDim !== 0)
      throw new RangeError(
        `${added.length} added values are no whole rows of parameter ${param}, which is (${out}, ${inDim})`,
      );
    this.#slot(slot).set(param, { sum, added });
  }

  async loaded(): Promise<void> {}

  clearSlot(slot: number): void {
    this.#slot(slot).clear();
  }

  activations(capacity: number, cols: number): ReferenceActivations {
    return { capacity, cols, data: new Float32Array(capacity * cols) };
  }

  resized({ capacity }: ReferenceActivations, cols: number): ReferenceActivations {
    return this.activations(capacity, cols);
  }

  begin(batch: StepBatch): void {
    checkBatch(batch, this.#config);
    this.#current = { batch, rows: Int32Array.from(batch.tokens.keys()) };
  }

  embed(out: ReferenceActivations, param: number): void {
    this.#eachRow(out, (row, batchRow) => {
      const token = at(this.#step.batch.tokens, batchRow);
      const { out: tokens } = this.#shape(param);
      const added = this.#added(param, batchRow);
      if (token >= tokens + added.length / out.cols)
        throw new RangeError(`row ${batchRow}: token ${token} does not exist`);
      const start = (token - tokens) * out.cols;
      const values =
        start < 0 ? this.#seen(param, batchRow, token * out.cols, out.cols) : added.subarray(start, start + out.cols);
      out.data.set(values, row * out.cols);
    });
  }

  rmsNorm(out: ReferenceActivations, x: ReferenceActivations, param: number, eps: number): void {
    const n = this.#shape(param).out;
    this.#eachRow(out, (row, batchRow) => {
      const weights = this.#seen(param, batchRow, 0, n);
      for (let start = row * x.cols; start < (row + 1) * x.cols; start += n) {
        const group = x.data.slice(start, start + n);
        const meanSquare = group.reduce((sum, value) => sum + value * value, 0) / n;
        group.forEach((value, i) => {
          out.data[start + i] = (value * at(weights, i)) / Math.sqrt(meanSquare + eps);
        });
      }
    });
  }

  linears(x: ReferenceActivations, layers: readonly LinearLayer<ReferenceActivations>[]): void {
    checkLayers(this.#config.params, x, layers);
    for (const { out, param, bias } of layers) this.#linear(out, x, param, bias);
  }

  #linear(out: ReferenceActivations, x: ReferenceActivations, param: number, bias: number | undefined): void {
    const { out: outputs, inDim } = this.#shape(param);
    this.#eachRow(out, (row, batchRow) => {
      const weights = this.#seen(param, batchRow, 0, outputs * inDim);
      const values = x.data.subarray(row * inDim, (row + 1) * inDim);
      const start = bias === undefined ? new Float64Array(outputs) : this.#seen(bias, batchRow, 0, outputs);
      for (let output = 0; output < outputs; output++) {
        out.data[row * outputs + output] = at(start, output) + product(weights, output, values);
      }
    });
  }

  head(out: ReferenceActivations, x: ReferenceActivations, param: number): void {
    const { out: outputs, inDim } = this.#shape(param);
    if (outputs > out.cols || inDim !== x.cols) throw new RangeError(misfit([outputs, inDim], param, x, out));
    this.#eachRow(out, (row, batchRow) => {
      const weights = this.#seen(param, batchRow, 0, outputs * inDim);
      const added = this.#added(param, batchRow);
      const own = outputs + added.length / inDim;
      if (own > out.cols) throw new RangeError(`row ${batchRow} has ${own} outputs, there is room for ${out.cols}`);
      const values = x.data.subarray(row * inDim, (row + 1) * inDim);
      const logits = out.data.subarray(row * out.cols, (row + 1) * out.cols);
      for (let output = 0; output < out.cols; output++) {
        if (output < outputs) logits[output] = product(weights, output, values);
        else logits[output] = output < own ? product(added, output - outputs, values) : Number.NEGATIVE_INFINITY;
      }
    });
  }

  rope(x: ReferenceActivations, { cos, sin, headDim }: RopeTable): void {
    const half = headDim / 2;
    this.#eachRow(x, (row, batchRow) => {
      const position = at(this.#step.batch.positions, batchRow);
      for (let head = row * x.cols; head < (row + 1) * x.cols; head += headDim) {
        for (let i = 0; i < half; i++) {
          const [a, b] = [at(x.data, head + i), at(x.data, head + half + i)];
          const [c, s] = [at(cos, position * half + i), at(sin, position * half + i)];
          x.data[head + i] = a * c - b * s;
          x.data[head + half + i] = b * c + a * s;
        }
      }
    });
  }

  storeKv(layer: number, keys: ReferenceActivations, values: ReferenceActivations): void {
    this.#eachRow(keys, (row, batchRow) => {
      const start = this.#cacheStart(batchRow, at(this.#step.batch.positions, batchRow));
      this.#keys[layer]?.set(keys.data.subarray(row * keys.cols, (row + 1) * keys.cols), start);
      this.#values[layer]?.set(values.data.subarray(row * values.cols, (row + 1) * values.cols), start);
    });
  }

  attention(
    out: ReferenceActivations,
    queries: ReferenceActivations,
    layer: number,
    scale: number,
    window: number,
  ): void {
    const { kvHeads, headDim } = this.#config.kv;
    const heads = queries.cols / headDim;
    const [keys = new Float32Array(0), values = new Float32Array(0)] = [this.#keys[layer], this.#values[layer]];
    this.#eachRow(out, (row, batchRow) => {
      const position = at(this.#step.batch.positions, batchRow);
      const first = window > 0 ? Math.max(0, position - window + 1) : 0;
      for (let head = 0; head < heads; head++) {
        const query = row * queries.cols + head * headDim;
        const kvHead = Math.floor(head / (heads / kvHeads)) * headDim;
        const starts = Array.from(
          { length: position + 1 - first },
          (_, t) => this.#cacheStart(batchRow, first + t) + kvHead,
        );
        const scores = starts.map((start) => {
          let dot = 0;
          for (let i = 0; i < headDim; i++) dot += at(queries.data, query + i) * at(keys, start + i);
          return dot * scale;
        });
        const top = Math.max(...scores);
        const weights = scores.map((score) => Math.exp(score - top));
        const total = weights.reduce((sum, weight) => sum + weight, 0);
        for (let i = 0; i < headDim; i++) {
          out.data[row * out.cols + head * headDim + i] = starts.reduce(
            (sum, start, t) => sum + (at(weights, t) / total) * at(values, start + i),
            0,
          );
        }
      }
    });
  }

  swiglu(out: ReferenceActivations, gate: ReferenceActivations, up: ReferenceActivations): void {
    this.#eachValue(out, (i) => (at(gate.data, i) / (1 + Math.exp(-at(gate.data, i)))) * at(up.data, i));
  }

  add(x: ReferenceActivations, y: ReferenceActivations): void {
    this.#eachValue(x, (i) => at(x.data, i) + at(y.data, i));
  }

  gather(out: ReferenceActivations, x: ReferenceActivations): void {
    const { batch } = this.#step;
    batch.logitRows.forEach((from, to) => {
      out.data.set(x.data.subarray(from * x.cols, (from + 1) * x.cols), to * x.cols);
    });
    this.#current = { batch, rows: batch.logitRows };
  }

  write(x: ReferenceActivations, values: Float32Array): void {
    x.data.set(values.subarray(0, this.#step.rows.length * x.cols));
  }

  async read(x: ReferenceActivations, into?: Float32Array): Promise<Float32Array> {
    const values = x.data.subarray(0, this.#step.rows.length * x.cols);
    const out = into?.subarray(0, values.length) ?? new Float32Array(values.length);
    out.set(values);
    return out;
  }

  close(): void {
    this.#params.clear();
    for (const slot of this.#slots) slot.clear();
  }

  get #step(): Step {
    if (this.#current === undefined) throw new Error('no step has begun');
    return this.#current;
  }

  #slot(slot: number): Map<number, PlainDelta> {
    const found = this.#slots[slot];
    if (found === undefined) throw new RangeError(`slot ${slot} does not exist; there are ${this.#slots.length}`);
    return found;
  }

  #shape(param: number): { out: number; inDim: number } {
    const [out, inDim = 1] = this.#config.params[param]?.shape ?? [];
    if (out === undefined)
      throw new RangeError(`parameter ${param} does not exist; there are ${this.#config.params.length}`);
    return { out, inDim };
  }

  /** `count` values of a parameter from `start` on, as a batch row sees them: base and its mixture. */
  #seen(param: number, batchRow: number, start: number, count: number): Float32Array | Float64Array {
    const base = this.#params.get(param)?.subarray(start, start + count);
    if (base === undefined) throw new RangeError(`parameter ${param} is not loaded`);
    const { mixtureStart, mixtureSlots, mixtureWeights } = this.#step.batch;
    let seen: Float64Array | undefined;
    for (let term = at(mixtureStart, batchRow); term < at(mixtureStart, batchRow + 1); term++) {
      const delta = this.#slot(at(mixtureSlots, term)).get(param);
      if (delta === undefined) continue;
      seen ??= Float64Array.from(base);
      const weight = at(mixtureWeights, term);
      for (let i = 0; i < count; i++) seen[i] = at(seen, i) + weight * at(delta.sum, start + i);
    }
    return seen ?? base;
  }

  /** Rows below the base's as a batch row sees them, (k, in): those of the one expert of its mixture that has any. */
  #added(param: number, batchRow: number): Float64Array {
    const { mixtureStart, mixtureSlots } = this.#step.batch;
    const slots = mixtureSlots.subarray(mixtureStart[batchRow], mixtureStart[batchRow + 1]);
    const [first, second] = [...slots].flatMap((slot) => {
      const added = this.#slot(slot).get(param)?.added ?? [];
      return added.length > 0 ? [added] : [];
    });
    if (second !== undefined)
      throw new RangeError(`row ${batchRow}: two experts of its mixture add rows to parameter ${param}`);
    return Float64Array.from(first ?? []);
  }

  /** Where the keys (and values) of a row's sequence at `position` begin in a layer's cache. */
  #cacheStart(batchRow: number, position: number): number {
    const { sequenceStart, blockTable, blocksPerSequence } = this.#step.batch;
    const { blockTokens, kvHeads, headDim } = this.#config.kv;
    const sequence = sequenceStart.findLastIndex((start) => start <= batchRow);
    const block = at(blockTable, sequence * blocksPerSequence + Math.floor(position / blockTokens));
    return (block * blockTokens + (position % blockTokens)) * kvHeads * headDim;
  }

  #eachRow(out: ReferenceActivations, task: (row: number, batchRow: number) => void): void {
    const { rows } = this.#step;
    if (rows.length > out.capacity)
      throw new RangeError(`there is room for ${out.capacity} rows, the step has ${rows.length}`);
    rows.forEach((batchRow, row) => {
      task(row, batchRow);
    });
  }

  #eachValue(out: ReferenceActivations, value: (index: number) => number): void {
    for (let i = 0; i < this.#step.rows.length * out.cols; i++) out.data[i] = value(i);
  }
}

/** An index beyond the array becomes NaN, which no comparison lets pass. */
function at(values: ArrayLike<number>, index: number): number {
  return values[index] ?? Number.NaN;
}

/** Row `row` of a matrix times a vector. */
function product(matrix: ArrayLike<number>, row: number, values: Float32Array): number {
  let sum = 0;
  for (let i = 0; i < values.length; i++) sum += (matrix[row * values.length + i] ?? 0) * (values[i] ?? 0);
  return sum;
}

function decode(dtype: ParamDtype, data: Uint8Array): Float32Array {
  const { buffer } = data.slice();
  switch (dtype) {
    case 'F32':
      return new Float32Array(buffer);
    case 'BF16':
      return Float32Array.from(new Uint16Array(buffer), brainToFloat);
    case 'F16':
      return Float32Array.from(new Uint16Array(buffer), halfToFloat);
    default:
      return dtype satisfies never;
  }
}
