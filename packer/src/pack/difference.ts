/**
 * One parameter's difference: as 1-bit planes, or exact.
 */
import { Problem, signWords } from '@signpost/contracts';
import { type CheckpointTensor, widenRows } from '@signpost/engine';
import { planeBuffers, type SignPacked, signPack } from '@signpost/kernels';
import { quantiseRows } from '../quantise.ts';
import { brainsOfFloats, decodeFloats } from '../source/floats.ts';
import { rawMatrix, rowBlocks } from './blocks.ts';
import type { ChangedParam, ExactDtype, PlannedMatrix, PlannedParam, PlannedRows, ScaleKind } from './plan.ts';
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
  const packed = scale === 'row' ? packByRow(param, planes) : packWhole(param, planes);
  const squared = [packed.differenceSquared, ...packed.planes.map((plane) => total(plane.residualSquared))];
  if (!Number.isFinite(packed.differenceSquared)) throw notFinite(param);
  const binarised = { planes: packed.planes.map(({ signs, rowScale }) => ({ signs, rowScale })), squared };
  const [first] = packed.planes;
  return scale === 'matrix-norm' && first !== undefined
    ? keepNorm(binarised, total(first.absolute), param.out * param.inDim)
    : binarised;
}

type Packed = Pick<SignPacked, 'planes' | 'differenceSquared'>;

/** A scale for the whole matrix needs all of it. */
function packWhole({ base, tuned, out, inDim }: PlannedMatrix, planes: number): Packed {
  return signPack(rawMatrix(base), rawMatrix(tuned), { out, inDim }, { scale: 'matrix', planes });
}

/** Rows know nothing of each other. */
function packByRow({ base, tuned, out, inDim }: PlannedMatrix, count: number): Packed {
  const words = signWords(inDim);
  const options = { scale: 'row', planes: count } as const;
  const planes = planeBuffers({ out, inDim }, options).map((buffers) => ({
    ...buffers,
    absolute: new Float64Array(out),
    residualSquared: new Float64Array(out),
  }));
  let differenceSquared = 0;
  for (const { begin, end, ...block } of rowBlocks(base, tuned)) {
    const buffers = planes.map(({ signs, rowScale }) => ({
      signs: signs.subarray(begin * words, end * words),
      rowScale: rowScale.subarray(begin, end),
    }));
    const part = signPack(block.base, block.tuned, { out: end - begin, inDim }, options, buffers);
    differenceSquared += part.differenceSquared;
    for (const [p, { absolute, residualSquared }] of part.planes.entries()) {
      planes[p]?.absolute.set(absolute, begin);
      planes[p]?.residualSquared.set(residualSquared, begin);
    }
  }
  return { planes, differenceSquared };
}

function total(sums: Float64Array): number {
  return sums.reduce((sum, value) => sum + value, 0);
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

export function squareSum(values: Float32Array): number {
  let total = 0;
  for (const value of values) total += value * value;
  return total;
}

/**
 * A parameter's difference in float32.
 *
 * @throws Problem when one is not finite.
 */
export function differenceOf(param: ChangedParam): Float32Array {
  const difference = new Float32Array(param.spec.shape.reduce((product, dim) => product * dim, 1));
  for (const { at, values } of differenceBlocks(param)) difference.set(values, at);
  return difference;
}

/** The difference some rows at a time; `at` is where they begin. */
function* differenceBlocks(param: ChangedParam): Generator<{ readonly at: number; readonly values: Float32Array }> {
  const columns = param.spec.shape.length === 1 ? 1 : param.spec.shape[1];
  for (const { begin, base, tuned } of rowBlocks(param.base, param.tuned)) {
    const before = decodeFloats(base.dtype, base.data);
    const after = decodeFloats(tuned.dtype, tuned.data);
    const values = new Float32Array(after.length);
    for (let i = 0; i < values.length; i++) values[i] = (after[i] ?? Number.NaN) - (before[i] ?? Number.NaN);
    if (!areFinite(values)) throw notFinite(param);
    yield { at: begin * columns, values };
  }
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
export function exactDifference(param: ChangedParam, dtype: ExactDtype): Exact {
  const { shape } = param.spec;
  const count = shape.reduce((product, dim) => product * dim, 1);
  if (dtype === 'BF16') {
    const values = new Uint16Array(count);
    for (const block of differenceBlocks(param)) values.set(brainsOfFloats(block.values), block.at);
    return { dtype, values };
  }
  if (shape.length === 1) {
    const { weight: values, scale } = quantiseRows(differenceOf(param), 1, count);
    return { dtype, values, scale };
  }
  const [rows, columns] = shape;
  const [values, scale] = [new Int8Array(count), new Float32Array(rows)];
  for (const block of differenceBlocks(param)) {
    const part = quantiseRows(block.values, block.values.length / columns, columns);
    values.set(part.weight, block.at);
    scale.set(part.scale, block.at / columns);
  }
  return { dtype, values, scale };
}

/**
 * Added rows in BF16.
 *
 * @throws Problem when a value is not finite.
 */
export function addedRows({ spec, tuned }: PlannedRows): Uint16Array {
  const values = floatsOf(tuned);
  if (!areFinite(values))
    throw new Problem(`the rows that the fine-tune added to ${spec.name} hold an infinity or NaN`);
  return brainsOfFloats(values);
}

/** What an exact difference stands for, as BF16: what a device holds. */
export function brainOf(exact: Exact): Uint16Array {
  return exact.dtype === 'BF16' ? exact.values : widenRows(exact.values, exact.scale);
}

function areFinite(values: Float32Array): boolean {
  // What is not finite stays so, or becomes NaN, when it is multiplied by 0 and added up.
  let sum = 0;
  for (let i = 0; i < values.length; i++) sum += (values[i] ?? 0) * 0;
  return sum === 0;
}

function notFinite({ spec, tuned }: PlannedParam): Problem {
  return new Problem(
    `the difference of ${spec.name} is not finite: the base or the fine-tune (${tuned.info.dtype}) holds an infinity or NaN`,
  );
}
