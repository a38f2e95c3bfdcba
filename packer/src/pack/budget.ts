/**
 * How many planes each matrix gets: a second or third one where it saves the most error for its bytes.
 */
import { Problem, signWords } from '@signpost/contracts';
import type { PlannedMatrix } from './plan.ts';

/** A number: the same for all. `bits`: sign bits a weight, on average. `maxError`: as many as it takes for each matrix's relative error. */
export type PlaneBudget = number | MeasuredBudget;
/** What can only be spent once errors have been measured. */
export type MeasuredBudget = { readonly bits: number } | { readonly maxError: number };

/** A matrix and its squared error before any plane, after the first, after the second … */
export interface MeasuredMatrix {
  readonly param: PlannedMatrix;
  readonly squared: readonly number[];
}

/** More planes are never measured: each costs as much as the first and saves a fraction of it. */
export const MOST_MEASURED_PLANES = 4;

/** Planes to measure before a budget can be spent. */
export function planesToMeasure(budget: MeasuredBudget): number {
  return 'bits' in budget ? Math.min(MOST_MEASURED_PLANES, Math.ceil(budget.bits) + 1) : MOST_MEASURED_PLANES;
}

/**
 * Planes by stem.
 *
 * @throws Problem when even all measured planes leave more error than is allowed, naming the matrix.
 */
export function allocatePlanes(
  matrices: readonly MeasuredMatrix[],
  budget: MeasuredBudget,
): ReadonlyMap<string, number> {
  return 'bits' in budget ? byBits(matrices, budget.bits) : byError(matrices, budget.maxError);
}

/**
 * One plane for every matrix, then one more where it saves the most error for its bytes, until the budget is spent.
 */
function byBits(matrices: readonly MeasuredMatrix[], bits: number): ReadonlyMap<string, number> {
  const planes = new Map(matrices.map(({ param }) => [param.stem, 1]));
  const weights = matrices.reduce((sum, { param }) => sum + param.out * param.inDim, 0);
  let left = Math.round((bits - 1) * weights);
  const candidates = matrices
    .flatMap(({ param, squared }) =>
      squared.slice(2).map((after, p) => ({
        stem: param.stem,
        plane: p + 2,
        signBits: param.out * param.inDim,
        worth: ((squared[p + 1] ?? 0) - after) / planeBytes(param),
      })),
    )
    .sort((a, b) => b.worth - a.worth);
  for (const { stem, plane, signBits } of candidates) {
    if (signBits > left || planes.get(stem) !== plane - 1) continue;
    planes.set(stem, plane);
    left -= signBits;
  }
  return planes;
}

function byError(matrices: readonly MeasuredMatrix[], maxError: number): ReadonlyMap<string, number> {
  return new Map(
    matrices.map(({ param, squared }) => {
      const [whole = 1] = squared;
      const enough = squared.findIndex((error, planes) => planes > 0 && Math.sqrt(error / whole) <= maxError);
      if (enough === -1) {
        const best = Math.sqrt((squared.at(-1) ?? 0) / whole);
        throw new Problem(
          `${param.stem}: ${squared.length - 1} planes leave a relative error of ${best.toFixed(3)}, more than the ${maxError} allowed; allow more, or keep it exact by a policy rule`,
        );
      }
      return [param.stem, enough];
    }),
  );
}

function planeBytes({ out, inDim }: PlannedMatrix): number {
  return 4 * out * (signWords(inDim) + 1);
}
