/**
 * Rows that make up for each other's errors.
 *
 * Where G is what errors of the outputs cost (stream-metric.ts), errors e_i of the rows cost Σ_ik G_ik e_iᵀ H e_k. As a function of row i alone that is
 * G_ii (f − r s)ᵀ H (f − r s) and a constant, with
 *
 *   f_i = t_i + Σ_{k≠i} (G_ik / G_ii) e_k:
 *
 * the row is fitted as without G, to a target that holds what the other rows miss, and each such step lessens the whole (Gauss–Seidel). While rows are
 * chosen for the first time those behind are still free to make up for row i; that is GPTQ's feedback from the other side (YAQA, arXiv 2505.22988: both
 * sides' feedback in one): with G = U Uᵀ,
 *
 *   f_i = t_i + Σ_{k<i} (U_ki / U_ii) e_k.
 *
 * Some rows, 1/64 of all, are fitted at once, and make up for the others only.
 */
import { addMoment, chooseSigns, factorMoment, refineSigns } from '@signpost/kernels';
import type { Plane } from '../pack/difference.ts';
import { columnScales, dividable, type Space, scaledSpace, scaledTarget } from './column-scales.ts';
import { addPlane, rowScales, SWEEPS } from './plane.ts';

const BLOCKS = 64;

export interface RowFeedback {
  /** G, (out, out), positive definite. */
  readonly metric: Float32Array;
  /** U with G = U Uᵀ, used from the diagonal on, (out, out). */
  readonly factor: Float32Array;
}

/** Which rows' errors a row makes up for: of those before it, while those behind it are yet to come, or of all. */
type Pass = 'before' | 'all';

/** Feedback by `metric` with so much more of its mean diagonal added to the diagonal; none where it is all zeros. */
export function rowFeedback(metric: Float32Array, share: number): RowFeedback | undefined {
  const out = Math.sqrt(metric.length);
  let mean = 0;
  for (let i = 0; i < out; i++) mean += (metric[i * out + i] ?? 0) / out;
  if (!(mean > 0)) return undefined;
  const damped = metric.map((value, at) => value / mean + (at % (out + 1) === 0 ? share : 0));
  const factor = damped.slice();
  return factorMoment(factor, out) === -1 ? { metric: damped, factor } : undefined;
}

/** The plane with rows that make up for each other's errors of `target`, pass by pass; column scales, if it has any, are fitted after each. */
export function makeUpForRows(
  input: Space,
  target: Float32Array, // (out, n)
  plane: Plane,
  feedback: RowFeedback,
  passes: readonly Pass[],
): Plane {
  let fitted = plane;
  for (const pass of passes) {
    const { signs, rowScale } = fitRows(input, target, fitted, feedback, pass);
    const { colScale } = fitted;
    if (colScale === undefined) fitted = { signs, rowScale };
    else {
      const problem = { target, signs, rowScale, moment: input.moment, n: input.n, metric: feedback.metric };
      fitted = { signs, rowScale, colScale: columnScales(problem, dividable(colScale)) };
    }
  }
  return fitted;
}

function fitRows(
  input: Space,
  target: Float32Array,
  plane: Plane,
  feedback: RowFeedback,
  pass: Pass,
): Pick<Plane, 'signs' | 'rowScale'> {
  const { n } = input;
  const { colScale } = plane;
  const [signs, rowScale] = [plane.signs.slice(), plane.rowScale.slice()];
  const out = rowScale.length;
  const words = signs.length / out;
  const space = scaledSpace(input, colScale);
  const errors = addPlane(target, plane, n, -1);
  const step = Math.ceil(out / BLOCKS);
  for (let begin = 0; begin < out; begin += step) {
    const end = Math.min(out, begin + step);
    const rows = end - begin;
    const asked = target.slice(begin * n, end * n);
    addMoment(asked, shares(feedback, pass, begin, end), errors, rows, n);
    const scaled = scaledTarget(asked, colScale);
    const ours = { signs: signs.subarray(begin * words, end * words), rowScale: rowScale.subarray(begin, end) };
    if (pass === 'before') chooseSigns(scaled, space.factor, ours.rowScale, ours.signs, rows, n);
    refineSigns(scaled, ours.signs, ours.rowScale, space.moment, rows, n, SWEEPS);
    ours.rowScale.set(rowScales(space, scaled, ours.signs, ours.rowScale));
    const ourTarget = target.subarray(begin * n, end * n);
    errors.set(addPlane(ourTarget, colScale === undefined ? ours : { ...ours, colScale }, n, -1), begin * n);
  }
  return { signs, rowScale };
}

/** How much of each row's error is asked of rows `begin` … `end - 1`: (out, end - begin). */
function shares({ metric, factor }: RowFeedback, pass: Pass, begin: number, end: number): Float32Array {
  const of = pass === 'before' ? factor : metric;
  const out = Math.sqrt(of.length);
  const rows = end - begin;
  const values = new Float32Array(out * rows);
  for (let k = 0; k < (pass === 'before' ? begin : out); k++) {
    if (k >= begin && k < end) continue;
    for (let i = begin; i < end; i++) values[k * rows + i - begin] = (of[k * out + i] ?? 0) / (of[i * out + i] ?? 1);
  }
  return values;
}
