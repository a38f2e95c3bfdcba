/**
 * Thinning out one fine-tune's differences before they are merged: TIES keeps the largest, DARE keeps some at random.
 */
import { countMagnitudes } from '@signpost/kernels';
import type { RowReader } from '../source/floats.ts';
import { rowBlocks, rowShape } from '../source/floats.ts';

/** Zeroes some of `delta` in place; `first` is the index of its first element in the whole tensor. */
export type Sparsify = (delta: Float32Array, first: number) => void;

/**
 * Keeps the share `density` of largest magnitude (TIES, arXiv 2306.01708, its step "trim"); of equal ones the earlier.
 *
 * The smallest kept magnitude is found without holding the tensor: positive floats sort as their bits do, so counting upper and then lower
 * halves of the bits gives it exactly, in passes over the rows.
 */
export function keepLargest(read: RowReader, shape: readonly number[], density: number): Sparsify {
  const { rows, cols } = rowShape(shape);
  if (density === 1) return () => {};
  if (density === 0) return (delta) => void delta.fill(0);
  const wanted = Math.max(1, Math.trunc(density * rows * cols));
  const upper = descend(countHalves(read, shape, UPPER), wanted);
  const lower = descend(countHalves(read, shape, upper.value), wanted - upper.above);
  const threshold = upper.value * 0x10000 + lower.value;
  const lastKept = indexOfEqual(read, shape, threshold, wanted - upper.above - lower.above);
  return (delta, first) => {
    const bits = magnitudeBits(delta);
    for (let i = 0; i < delta.length; i++) {
      const magnitude = (bits[i] ?? 0) & 0x7fffffff;
      if (magnitude < threshold || (magnitude === threshold && first + i > lastKept)) delta[i] = 0;
    }
  };
}

/**
 * Keeps each difference with probability `density` and, with `rescale`, divides what it keeps by it, so that the expected difference stays
 * (DARE, arXiv 2311.03099). The same seed, tensor and model drop the same elements, in whatever blocks they are read.
 */
export function keepAtRandom(density: number, rescale: boolean, key: string): Sparsify {
  if (density === 1) return () => {};
  const state = hash(key);
  const scale = rescale && density > 0 ? 1 / density : 1;
  return (delta, first) => {
    for (let i = 0; i < delta.length; i++) {
      const uniform = mix(mix((first + i) ^ state) + state) / 2 ** 32;
      delta[i] = uniform < density ? (delta[i] ?? 0) * scale : 0;
    }
  };
}

function magnitudeBits(delta: Float32Array): Uint32Array {
  return new Uint32Array(delta.buffer, delta.byteOffset, delta.length);
}

const UPPER = -1;

/** How many elements have each upper half of their magnitude's bits; or of those with one upper half, how many have each lower half. */
function countHalves(read: RowReader, shape: readonly number[], upper: number): Uint32Array {
  const counts = new Uint32Array(2 ** 16);
  for (const { begin, end } of rowBlocks(shape)) countMagnitudes(counts, read(begin, end), upper);
  return counts;
}

/** The bucket in which the `wanted`-th element from the top lies, and how many lie above it. */
function descend(counts: Uint32Array, wanted: number): { value: number; above: number } {
  let above = 0;
  for (let value = counts.length - 1; value > 0; value--) {
    const count = counts[value] ?? 0;
    if (above + count >= wanted) return { value, above };
    above += count;
  }
  return { value: 0, above };
}

/** Index of the `nth` element whose magnitude is `threshold`. */
function indexOfEqual(read: RowReader, shape: readonly number[], threshold: number, nth: number): number {
  const { cols } = rowShape(shape);
  let seen = 0;
  for (const { begin, end } of rowBlocks(shape)) {
    const bits = magnitudeBits(read(begin, end));
    for (let i = 0; i < bits.length; i++) {
      if (((bits[i] ?? 0) & 0x7fffffff) === threshold && ++seen === nth) return begin * cols + i;
    }
  }
  return Number.POSITIVE_INFINITY;
}

/** FNV-1a. */
function hash(text: string): number {
  let state = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) state = Math.imul(state ^ text.charCodeAt(i), 0x01000193);
  return mix(state);
}

/** MurmurHash3's finalizer: every input bit changes every output bit with probability about one half. */
function mix(value: number): number {
  let x = value | 0;
  x = Math.imul(x ^ (x >>> 16), 0x85ebca6b);
  x = Math.imul(x ^ (x >>> 13), 0xc2b2ae35);
  return (x ^ (x >>> 16)) >>> 0;
}
