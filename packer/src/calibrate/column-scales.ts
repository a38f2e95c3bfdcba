/**
 * Column scales of a plane r_i s_ij c_j, by what its inputs look like.
 *
 * With c held, e = t − r (s ∘ c) is diag(c) (t / c − r s): rows are then fitted as without columns, to t / c in the space of diag(c) H diag(c).
 * With signs and r held, Σ_i e_iᵀHe_i is quadratic in c, and its normal equations (A + λI) c = b + λ c₀ have
 *
 *   A = H ∘ Σ_i r_i² s_i s_iᵀ,   b_j = Σ_i r_i s_ij (H t_i)_j,
 *
 * (with a metric G of the rows, Σ_ik G_ik e_iᵀHe_k, G R S stands in place of one R S in both), which is weighted least squares over all rows at once: what alternating least squares (row-col.ts) becomes with H in place of I, with a ridge towards the
 * uncalibrated c₀. Solved by Gauss–Seidel, each value clamped from below: a constrained minimum, for A is positive semidefinite (Schur).
 */
import { addMoment } from '@signpost/kernels';

/** Share of the mean diagonal that pulls a scale towards its plain value. */
export const RIDGE = 0.02;
/** Columns are divided by their scales: none falls below this share of the mean plain one. */
const FLOOR = 1 / 16;
const MOST_SWEEPS = 100;
/** Sweeps end once no scale moves by more than this share of the mean. */
const SETTLED = 1e-6;

/** What errors are measured in: eᵀHe, H = U Uᵀ. */
export interface Space {
  readonly n: number;
  /** H, (n, n). */
  readonly moment: Float32Array;
  /** U from the diagonal on, (n, n). */
  readonly factor: Float32Array;
}

export interface ColumnProblem {
  readonly target: Float32Array; // (out, n)
  readonly signs: Uint32Array; // (out, ceil(n / 32))
  readonly rowScale: Float32Array; // (out)
  readonly moment: Float32Array; // (n, n)
  readonly n: number;
  /** G, where errors of one row cost together with those of others (row-feedback.ts): (out, out). */
  readonly metric?: Float32Array;
}

/** The c that minimises Σ_i eᵀHe + λ ‖c − plain‖², λ = 0.02 × the mean diagonal of A, none below 1/16 of the mean of `plain`. */
export function columnScales(problem: ColumnProblem, plain: Float32Array): Float32Array {
  const { target, moment, n } = problem;
  const scaledSigns = rowSigns(problem);
  const costed = withMetric(scaledSigns, problem);
  const [products, matrix] = [new Float32Array(n * n), new Float32Array(n * n)];
  addMoment(products, costed, target, n, n);
  const right = new Float64Array(n);
  for (let j = 0; j < n; j++) {
    let sum = 0;
    for (let k = j * n; k < (j + 1) * n; k++) sum += (products[k] ?? 0) * (moment[k] ?? 0);
    right[j] = sum;
  }
  addMoment(matrix, costed, scaledSigns, n, n);
  let trace = 0;
  for (let at = 0; at < matrix.length; at++) matrix[at] = (matrix[at] ?? 0) * (moment[at] ?? 0);
  for (let j = 0; j < n; j++) trace += matrix[j * n + j] ?? 0;
  // Rows that are all zero leave nothing to solve.
  if (!(trace > 0)) return plain.slice();
  return clampedSolution(matrix, right, plain, (RIDGE * trace) / n);
}

/** r_i s_ij, (out, n). */
function rowSigns({ signs, rowScale, n }: ColumnProblem): Float32Array {
  const words = Math.ceil(n / 32);
  const values = new Float32Array(rowScale.length * n);
  for (const [i, scale] of rowScale.entries())
    for (let j = 0; j < n; j++)
      values[i * n + j] = ((signs[i * words + (j >> 5)] ?? 0) >>> (j & 31)) & 1 ? scale : -scale;
  return values;
}

/** G x */
function withMetric(x: Float32Array, { metric, rowScale, n }: ColumnProblem): Float32Array {
  if (metric === undefined) return x;
  const products = new Float32Array(x.length);
  addMoment(products, metric, x, rowScale.length, n);
  return products;
}

function clampedSolution(
  matrix: Float32Array, // (n, n)
  right: Float64Array, // (n)
  plain: Float32Array, // (n)
  ridge: number,
): Float32Array {
  const n = plain.length;
  const floor = floorOf(plain);
  const scales = Float64Array.from(plain);
  for (
    let sweep = 0, moved = Number.POSITIVE_INFINITY;
    sweep < MOST_SWEEPS && moved > (SETTLED * floor) / FLOOR;
    sweep++
  ) {
    moved = 0;
    for (let j = 0; j < n; j++) {
      const [diagonal, before] = [matrix[j * n + j] ?? 0, scales[j] ?? 0];
      let left = (right[j] ?? 0) + ridge * (plain[j] ?? 0) + diagonal * before;
      for (let k = 0; k < n; k++) left -= (matrix[j * n + k] ?? 0) * (scales[k] ?? 0);
      const after = Math.max(floor, left / (diagonal + ridge));
      scales[j] = after;
      moved = Math.max(moved, Math.abs(after - before));
    }
  }
  return Float32Array.from(scales);
}

function floorOf(plain: Float32Array): number {
  return (FLOOR * plain.reduce((sum, value) => sum + value, 0)) / plain.length;
}

/** Plain column scales that columns can be divided by. */
export function dividable(plain: Float32Array): Float32Array {
  const floor = floorOf(plain);
  return plain.map((value) => Math.max(floor, value));
}

/** The space in which a plane with column scales has none. */
export function scaledSpace({ n, moment, factor }: Space, colScale: Float32Array | undefined): Space {
  if (colScale === undefined) return { n, moment, factor };
  const [scaledMoment, scaledFactor] = [new Float32Array(n * n), new Float32Array(n * n)];
  for (let j = 0; j < n; j++)
    for (let k = 0; k < n; k++) {
      const [at, row] = [j * n + k, colScale[j] ?? 0];
      scaledMoment[at] = row * (moment[at] ?? 0) * (colScale[k] ?? 0);
      scaledFactor[at] = row * (factor[at] ?? 0);
    }
  return { n, moment: scaledMoment, factor: scaledFactor };
}

/** t / c */
export function scaledTarget(target: Float32Array, colScale: Float32Array | undefined): Float32Array {
  if (colScale === undefined) return target;
  return target.map((value, at) => value / (colScale[at % colScale.length] ?? 1));
}
