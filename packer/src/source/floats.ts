/**
 * Tensors as float32, some rows at a time: what merging reads and writes, whether the values stand in a file or are computed.
 */
import { elementCount, type TensorInfo } from '@signpost/contracts';
import { type CheckpointTensor, floatToHalf, halfToFloat, type ParamDtype } from '@signpost/engine';
import { releaseMapped } from '@signpost/kernels';

/** Float32 values of rows `begin` … `end - 1`: (end - begin, cols). A vector's rows are its elements. */
export type RowReader = (begin: number, end: number) => Float32Array;

/** A tensor that is computed when it is read, rows by rows, and never held. */
export class ComputedTensor implements CheckpointTensor {
  readonly info: TensorInfo;
  readonly rows: RowReader;

  constructor(name: string, shape: readonly number[], rows: RowReader) {
    this.info = { name, dtype: 'F32', shape, offset: 0, bytes: 4 * elementCount(shape) };
    this.rows = rows;
  }

  get data(): Uint8Array {
    return bytesOf(this.rows(0, rowShape(this.info.shape).rows));
  }

  *pieces(): Generator<Uint8Array, void, void> {
    for (const { begin, end } of rowBlocks(this.info.shape)) yield bytesOf(this.rows(begin, end));
  }
}

/** A matrix's rows and columns; a vector is a column. */
export function rowShape(shape: readonly number[]): { rows: number; cols: number } {
  const [rows = 0, cols = 1] = shape;
  return { rows, cols };
}

/** Rows `begin` … `end - 1` of a tensor, as a tensor. */
export function tensorRows(tensor: CheckpointTensor, begin: number, end: number): CheckpointTensor {
  const { name, shape, bytes, offset, dtype } = tensor.info;
  const [rows = 0, ...rest] = shape;
  if (begin === 0 && end === rows) return tensor;
  if (tensor instanceof ComputedTensor)
    return new ComputedTensor(name, [end - begin, ...rest], (from, to) => tensor.rows(begin + from, begin + to));
  const rowBytes = bytes / rows;
  const info = {
    name,
    dtype,
    shape: [end - begin, ...rest],
    offset: offset + begin * rowBytes,
    bytes: (end - begin) * rowBytes,
  };
  return { ...tensor, info, data: tensor.data.subarray(begin * rowBytes, end * rowBytes) };
}

/** Elements that are read, computed and written at once: 256 KiB of float32, so that a few such blocks stay in a core's cache. */
const BLOCK_ELEMENTS = 2 ** 16;

/** Ranges of rows, each of about so many elements, that together are all rows. */
export function* rowBlocks(shape: readonly number[]): Generator<{ begin: number; end: number }> {
  const { rows, cols } = rowShape(shape);
  const step = Math.max(1, Math.floor(BLOCK_ELEMENTS / cols));
  for (let begin = 0; begin < rows; begin += step) yield { begin, end: Math.min(rows, begin + step) };
}

/** Reads rows of a tensor whose dtype is known to be one of a parameter's; of a mapped one, no more memory stays in use than was asked for last. */
export function rowReader(tensor: CheckpointTensor, dtype: ParamDtype): RowReader {
  if (tensor instanceof ComputedTensor) return tensor.rows;
  const { rows } = rowShape(tensor.info.shape);
  const rowBytes = tensor.info.bytes / rows;
  return (begin, end) => {
    const bytes = tensor.data.subarray(begin * rowBytes, end * rowBytes);
    const values = decodeFloats(dtype, bytes);
    if (tensor.path === undefined) return values;
    const copy = values.buffer === bytes.buffer ? values.slice() : values;
    letGo(tensor, bytes);
    return copy;
  };
}

/** Lets go of the memory behind bytes of a tensor. Only what is mapped may be: a copy would be lost. */
export function letGo(tensor: CheckpointTensor, bytes: Uint8Array): void {
  if (tensor.path !== undefined && bytes.buffer === tensor.data.buffer) releaseMapped(bytes);
}

/** May be a view of `data`: not to be written to. */
export function decodeFloats(dtype: ParamDtype, data: Uint8Array): Float32Array {
  const bytes = data.byteOffset % 4 === 0 ? data : data.slice();
  if (dtype === 'F32') return new Float32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4);
  const halves = new Uint16Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 2);
  return dtype === 'BF16' ? floatsOfBrains(halves) : floatsOfHalves(halves);
}

/** As `brainToFloat` does one: whole arrays without a call for each element. */
export function floatsOfBrains(brains: Uint16Array): Float32Array {
  const words = new Uint32Array(brains.length);
  for (let i = 0; i < words.length; i++) words[i] = (brains[i] ?? 0) << 16;
  return new Float32Array(words.buffer);
}

/** What each of the 65,536 halves is. */
let halfTable: Float32Array | undefined;

function floatsOfHalves(halves: Uint16Array): Float32Array {
  halfTable ??= Float32Array.from({ length: 2 ** 16 }, (_, bits) => halfToFloat(bits));
  const table = halfTable;
  const values = new Float32Array(halves.length);
  for (let i = 0; i < values.length; i++) values[i] = table[halves[i] ?? 0] ?? 0;
  return values;
}

/** As `floatToBrain` does one. */
export function brainsOfFloats(values: Float32Array): Uint16Array {
  const words = new Uint32Array(values.buffer, values.byteOffset, values.length);
  const brains = new Uint16Array(words.length);
  for (let i = 0; i < brains.length; i++) {
    const bits = words[i] ?? 0;
    const isNotANumber = (bits & 0x7fffffff) > 0x7f800000;
    brains[i] = isNotANumber ? (bits >>> 16) | 0x40 : (bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16;
  }
  return brains;
}

/** Bytes of `values` in `dtype`, each rounded to the nearest, ties to even. */
export function encodeFloats(dtype: ParamDtype, values: Float32Array): Uint8Array {
  if (dtype === 'F32') return bytesOf(values);
  if (dtype === 'BF16') return bytesOf(brainsOfFloats(values));
  const halves = new Uint16Array(values.length);
  for (let i = 0; i < values.length; i++) halves[i] = floatToHalf(values[i] ?? 0);
  return bytesOf(halves);
}

export function bytesOf(values: Float32Array | Uint16Array): Uint8Array {
  return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
}
