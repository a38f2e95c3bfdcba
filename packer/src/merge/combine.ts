/**
 * The arithmetic of merging, on blocks of float32. Every step is rounded to float32 in mergekit's order, so that a sign elected on a close call
 * is the one that mergekit elects.
 */
import { electAndMerge as elect } from '@signpost/kernels';

/** One fine-tune's part in a merge: its values or differences, and its weight. */
export interface Term {
  readonly values: Float32Array;
  readonly weight: number;
}

/** Below this a sum of weights is taken as zero and divides nothing. */
const NO_WEIGHT = 1e-8;

/** `Σ w·v`, divided by `Σ w` with `normalize`: linear merging (arXiv 2203.05482) and task arithmetic (arXiv 2212.04089). */
export function weightedSum(terms: readonly Term[], length: number, normalize: boolean): Float32Array {
  const sum = new Float32Array(length);
  let total = 0;
  for (const { values, weight } of terms) {
    const factor = Math.fround(weight);
    total = Math.fround(total + factor);
    for (let i = 0; i < length; i++) sum[i] = (sum[i] ?? 0) + Math.fround((values[i] ?? 0) * factor);
  }
  if (normalize && Math.abs(total) >= NO_WEIGHT) for (let i = 0; i < length; i++) sum[i] = (sum[i] ?? 0) / total;
  return sum;
}

/** TIES' election and disjoint merge (arXiv 2306.01708), as the kernel does it. */
export function electAndMerge(terms: readonly Term[], length: number, normalize: boolean): Float32Array {
  const merged = new Float32Array(length);
  const weights = Float32Array.from(terms, ({ weight }) => weight);
  elect(
    merged,
    terms.map(({ values }) => values),
    weights,
    normalize,
  );
  return merged;
}

/** `x + factor · y`, written over `y`; `x` may be a view of a mapped file. */
export function addScaled(x: Float32Array, y: Float32Array, factor: number): Float32Array {
  const scale = Math.fround(factor);
  for (let i = 0; i < y.length; i++) y[i] = (x[i] ?? 0) + Math.fround((y[i] ?? 0) * scale);
  return y;
}
