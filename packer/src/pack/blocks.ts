/**
 * Two tensors some rows at a time, so that no more of a mapped file than that counts as memory in use.
 */
import { Problem } from '@signpost/contracts';
import type { CheckpointTensor } from '@signpost/engine';
import type { RawMatrix } from '@signpost/kernels';
import { bytesOf, ComputedTensor, decodeFloats, letGo } from '../source/floats.ts';

const BLOCK_BYTES = 32 * 1024 * 1024;
/** Most tensors that differ do so from the first row on: little is read, or computed, to see it. */
const COMPARED_BYTES = 1024 * 1024;

export interface RowBlock {
  readonly begin: number;
  readonly end: number;
  /** Rows `begin` … `end - 1` of each. */
  readonly base: RawMatrix;
  readonly tuned: RawMatrix;
}

/** All rows in order, each block computed when it is asked for, and its mapped bytes let go of with the next. A vector's rows are its elements. */
export function* rowBlocks(
  base: CheckpointTensor,
  tuned: CheckpointTensor,
  blockBytes = BLOCK_BYTES,
): Generator<RowBlock, void, void> {
  const [rows = 1] = base.info.shape;
  const step = Math.max(1, Math.floor((blockBytes * rows) / Math.max(base.info.bytes, tuned.info.bytes)));
  const [before, after] = [rowsOf(base, rows), rowsOf(tuned, rows)];
  for (let begin = 0; begin < rows; begin += step) {
    const end = Math.min(rows, begin + step);
    const block = { begin, end, base: before(begin, end), tuned: after(begin, end) };
    yield block;
    letGo(base, block.base.data);
    letGo(tuned, block.tuned.data);
  }
}

/** Rows `begin` … `end - 1` of a tensor of so many, as they are stored. */
export function rowsOf(tensor: CheckpointTensor, rows: number): (begin: number, end: number) => RawMatrix {
  if (tensor instanceof ComputedTensor)
    return (begin, end) => ({ dtype: 'F32', data: bytesOf(tensor.rows(begin, end)) });
  const { dtype, data } = rawMatrix(tensor);
  const rowBytes = data.length / rows;
  return (begin, end) => ({ dtype, data: data.subarray(begin * rowBytes, end * rowBytes) });
}

/** Whether two tensors have the same values, in whatever dtypes. */
export function isSame(a: CheckpointTensor, b: CheckpointTensor): boolean {
  for (const { base, tuned } of rowBlocks(a, b, COMPARED_BYTES)) if (!isSameBlock(base, tuned)) return false;
  return true;
}

function isSameBlock(a: RawMatrix, b: RawMatrix): boolean {
  if (a.dtype === b.dtype) return Buffer.compare(a.data, b.data) === 0;
  const values = decodeFloats(b.dtype, b.data);
  return decodeFloats(a.dtype, a.data).every((value, at) => value === values[at]);
}

/** @throws Problem for a dtype that weights don't come in. */
export function rawMatrix({ info, data }: CheckpointTensor): RawMatrix {
  switch (info.dtype) {
    case 'BF16':
    case 'F16':
    case 'F32':
      return { dtype: info.dtype, data: data.byteOffset % 4 === 0 ? data : data.slice() };
    default:
      throw new Problem(`tensor ${info.name} is ${info.dtype}; supported: BF16, F16, F32`);
  }
}
