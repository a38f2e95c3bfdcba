/**
 * What fitting does to planes again and again: taking them off, and scales for given signs.
 */
import { weightedProducts } from '@signpost/kernels';
import type { Plane } from '../pack/difference.ts';
import { RIDGE, type Space } from './column-scales.ts';

/** Most times that all signs are looked at for flips. */
export const SWEEPS = 15;

/** r = max(0, (sᵀHt + λa) / (sᵀHs + λ)) for each row, λ = 0.02 × the mean of sᵀHs over rows. */
export function rowScales(
  { n, moment }: Pick<Space, 'n' | 'moment'>,
  target: Float32Array,
  signs: Uint32Array,
  plain: Float32Array, // (out): what the ridge is towards
): Float32Array {
  const out = plain.length;
  const [signTarget, signSign] = [new Float64Array(out), new Float64Array(out)];
  weightedProducts(target, signs, moment, out, n, signTarget, signSign);
  const ridge = (RIDGE * sum(signSign)) / out;
  return Float32Array.from(signTarget, (product, i) =>
    Math.max(0, (product + ridge * (plain[i] ?? 0)) / ((signSign[i] ?? 0) + ridge)),
  );
}

/** values + direction · plane */
export function addPlane(
  values: Float32Array,
  { signs, rowScale, colScale }: Plane,
  n: number,
  direction: 1 | -1,
): Float32Array {
  const words = Math.ceil(n / 32);
  const sums = new Float32Array(values.length);
  for (const [i, scale] of rowScale.entries())
    for (let j = 0; j < n; j++) {
      const isPositive = ((signs[i * words + (j >> 5)] ?? 0) >>> (j & 31)) & 1;
      const step = direction * scale * (colScale?.[j] ?? 1);
      sums[i * n + j] = (values[i * n + j] ?? 0) + (isPositive ? step : -step);
    }
  return sums;
}

export function sum(values: Float64Array): number {
  return values.reduce((total, value) => total + value, 0);
}
