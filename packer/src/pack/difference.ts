/**
 * One parameter's difference: as 1-bit planes, or exact.
 */
import { Problem } from '@signpost/contracts';
import { type CheckpointTensor, floatToBrain, widenRows } from '@signpost/engine';
import { type RawMatrix, signPack } from '@signpost/kernels';
import { quantiseRows } from '../quantise.ts';
import { decodeFloats } from '../source/floats.ts';
import type { ExactDtype, PlannedMatrix, PlannedParam, ScaleKind } from './plan.ts';
import { rowColPlane } from './row-col.ts';

export interface Plane {
  readonly signs: Uint32Array; // (out, ceil(in / 32))
  readonly rowScale: Float32Array; // (out) or (1)
  readonly colScale?: Float32Array; // (in)
}

export interface Binarised {
  readonly planes: readonly Plane[];
  /** Σ (Δ − Δ̂)² before any plane, after the first, after the second …: (planes + 1). */
  readonly squared: readonly number[];
}

/**
 * Signs and scales of a linear layer's difference, without a look at what its inputs are like; further planes do the same to what is left.
 *
 * @throws Problem when a difference is not finite.
 */
export function binarise(param: PlannedMatrix, scale: ScaleKind, planes: number): Binarised {
  if (scale === 'row-col') return binariseRowCol(param, planes);
  const shape = { out: param.out, inDim: param.inDim };
  const packed = signPack(rawMatrix(param.base), rawMatrix(param.tuned), shape, {
    scale: scale === 'row' ? 'row' : 'matrix',
    planes,
  });
  if (!Number.isFinite(packed.differenceSquared)) throw notFinite(param);
  const total = (sums: Float64Array) => sums.reduce((sum, value) => sum + value, 0);
  const squared = [packed.differenceSquared, ...packed.planes.map((plane) => total(plane.residualSquared))];
  const binarised = { planes: packed.planes.map(({ signs, rowScale }) => ({ signs, rowScale })), squared };
  const [first] = packed.planes;
  return scale === 'matrix-norm' && first !== undefined
    ? keepNorm(binarised, total(first.absolute), param.out * param.inDim)
    : binarised;
}

/** The scale r with ‖r S‖ = ‖Δ‖: r = ‖Δ‖ / √n. */
function keepNorm({ planes, squared }: Binarised, absolute: number, count: number): Binarised {
  const [whole = 0] = squared;
  const r = Math.fround(Math.sqrt(whole / count));
  return {
    planes: planes.slice(0, 1).map(({ signs }) => ({ signs, rowScale: Float32Array.of(r) })),
    squared: [whole, whole - 2 * r * absolute + count * r * r],
  };
}

function binariseRowCol(param: PlannedMatrix, count: number): Binarised {
  const { out, inDim } = param;
  let left = differenceOf(param);
  const squared = [squareSum(left)];
  const planes: Plane[] = [];
  for (let p = 0; p < count; p++) {
    const plane = rowColPlane(left, out, inDim);
    planes.push(plane);
    left = plane.left;
    squared.push(squareSum(left));
  }
  return {
    planes: planes.map(({ signs, rowScale, colScale = new Float32Array() }) => ({ signs, rowScale, colScale })),
    squared,
  };
}

function squareSum(values: Float32Array): number {
  let total = 0;
  for (const value of values) total += value * value;
  return total;
}

/**
 * A parameter's difference in float32.
 *
 * @throws Problem when one is not finite.
 */
export function differenceOf(param: PlannedParam): Float32Array {
  const base = floatsOf(param.base);
  return floatsOf(param.tuned).map((value, i) => {
    const difference = value - (base[i] ?? Number.NaN);
    if (!Number.isFinite(difference)) throw notFinite(param);
    return difference;
  });
}

export function floatsOf(tensor: CheckpointTensor): Float32Array {
  const { dtype, data } = rawMatrix(tensor);
  return decodeFloats(dtype, data);
}

export type Exact =
  | { readonly dtype: 'BF16'; readonly values: Uint16Array }
  | { readonly dtype: 'I8'; readonly values: Int8Array; readonly scale: Float32Array };

/**
 * A parameter's difference as it is kept exact: in BF16, or in INT8 with a scale for each row (a vector's one) that makes its largest value ±127.
 *
 * @throws Problem when a difference is not finite.
 */
export function exactDifference(param: PlannedParam, dtype: ExactDtype): Exact {
  const difference = differenceOf(param);
  if (dtype === 'BF16') return { dtype, values: Uint16Array.from(difference, floatToBrain) };
  const { shape } = param.spec;
  const rows = shape.length === 1 ? 1 : shape[0];
  const { weight: values, scale } = quantiseRows(difference, rows, difference.length / rows);
  return { dtype, values, scale };
}

/** What an exact difference stands for, as BF16: what a device holds. */
export function brainOf(exact: Exact): Uint16Array {
  return exact.dtype === 'BF16' ? exact.values : widenRows(exact.values, exact.scale);
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

function notFinite({ spec, tuned }: PlannedParam): Problem {
  return new Problem(
    `the difference of ${spec.name} is not finite: the base or the fine-tune (${tuned.info.dtype}) holds an infinity or NaN`,
  );
}
