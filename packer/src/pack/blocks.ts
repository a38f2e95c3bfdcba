/**
 * Two tensors some rows at a time, so that no more of a mapped file than that counts as memory in use.
 */
import { Problem } from '@signpost/contracts';
import type { CheckpointTensor } from '@signpost/engine';
import { type RawMatrix, releaseMapped } from '@signpost/kernels';

const BLOCK_BYTES = 32 * 1024 * 1024;

export interface RowBlock {
  readonly begin: number;
  readonly end: number;
  /** Rows `begin` … `end - 1` of each. */
  readonly base: RawMatrix;
  readonly tuned: RawMatrix;
}

/** All rows in order; a block's bytes are let go of when the next one is asked for. A vector's rows are its elements. */
export function* rowBlocks(base: CheckpointTensor, tuned: CheckpointTensor): Generator<RowBlock, void, void> {
  const [rows = 1] = base.info.shape;
  const [before, after] = [rawMatrix(base), rawMatrix(tuned)];
  const step = Math.max(1, Math.floor((BLOCK_BYTES * rows) / Math.max(before.data.length, after.data.length)));
  const part = ({ dtype, data }: RawMatrix, begin: number, end: number): RawMatrix => {
    const rowBytes = data.length / rows;
    return { dtype, data: data.subarray(begin * rowBytes, end * rowBytes) };
  };
  for (let begin = 0; begin < rows; begin += step) {
    const end = Math.min(rows, begin + step);
    const block = { begin, end, base: part(before, begin, end), tuned: part(after, begin, end) };
    yield block;
    letGo(base, block.base.data);
    letGo(tuned, block.tuned.data);
  }
}

/** Whether two tensors have the same dtype and bytes. */
export function isSame(a: CheckpointTensor, b: CheckpointTensor): boolean {
  if (a.info.dtype !== b.info.dtype) return false;
  for (const { base, tuned } of rowBlocks(a, b)) if (Buffer.compare(base.data, tuned.data) !== 0) return false;
  return true;
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

/** Only what is mapped may be let go of: a copy would be lost. */
function letGo(tensor: CheckpointTensor, bytes: Uint8Array): void {
  if (tensor.path !== undefined && bytes.buffer === tensor.data.buffer) releaseMapped(bytes);
}
