/**
 * Signs and row scales of one matrix, chosen by what its inputs look like. Closed forms only, no back-propagation.
 *
 * With H = E[x̂ x̂ᵀ] + δI of the inputs in the model as compressed so far:
 *
 * - target: t = Δ_i + (w_i D + R_i) H⁻¹ with D = E[(x − x̂) x̂ᵀ], the least-squares row that also makes up for what the layers before did to the input
 *   (asymmetric calibration, GPTAQ, arXiv 2504.02692); where the output is added to the residual stream h, R = E[(h − ĥ) x̂ᵀ]: what the stream has lost
 *   so far is asked of the same least squares, so that errors don't pile up from layer to layer;
 * - scale: r = (sᵀHt + λa) / (sᵀHs + λ), clamped at 0: ridge regression towards a = mean |t|, λ = 0.02 × the mean of sᵀHs over rows;
 * - signs: from left to right, each of the weight and the feedback of the errors before it (GPTQ, arXiv 2210.17323, in the LDL form of QuIP, arXiv
 *   2307.13304, algorithm 3); then single signs are flipped as long as that lessens eᵀHe (coordinate descent);
 * - further planes: the same for what is left, then each again for what the others leave.
 */
import { chooseSigns, correctTargets, refineSigns, weightedProducts } from '@signpost/kernels';
import type { InputStatistics } from './statistics.ts';

const RIDGE = 0.02;
/** Signs by scales by signs …: the second time from scales that fit. */
const ROUNDS = 2;
const SWEEPS = 15;

export interface FittedPlane {
  readonly signs: Uint32Array; // (out, ceil(in / 32))
  readonly rowScale: Float32Array; // (out)
}

export interface Fitted {
  readonly planes: readonly FittedPlane[];
  /** Σ_rows eᵀHe before any plane, after the first, after the second …: (planes + 1). */
  readonly errors: readonly number[];
}

/** Linear layer (out, n) as the fine-tune has it, and its difference from the base. */
export interface LinearDifference {
  readonly out: number;
  readonly tuned: Float32Array; // (out, n)
  readonly difference: Float32Array; // (out, n)
}

export class MatrixFit {
  readonly #input: InputStatistics;
  readonly #feedback: Float32Array; // (n, n)

  constructor(input: InputStatistics) {
    const { n, factor } = input;
    this.#input = input;
    this.#feedback = new Float32Array(n * n);
    for (let j = 0; j < n; j++)
      for (let k = j + 1; k < n; k++) this.#feedback[j * n + k] = (factor[j * n + k] ?? 0) / (factor[k * n + k] ?? 1);
  }

  fit({ out, tuned, difference }: LinearDifference, planes: number): Fitted {
    const { n, cross, factor, drift } = this.#input;
    let left: Float32Array = difference.slice();
    correctTargets(left, tuned, cross, factor, drift, out, n);
    const fitted: FittedPlane[] = [];
    const errors = [this.#error(left, out)];
    for (let p = 0; p < planes; p++) {
      const plane = this.#plane(left, out);
      fitted.push(plane);
      left = addPlane(left, plane, n, -1);
      if (p > 0) left = this.#settle(left, fitted, out);
      errors.push(this.#error(left, out));
    }
    return { planes: fitted, errors };
  }

  /** Fits each plane again to what the others leave, now that all are there. Gives what is left then; changes `planes` in place. */
  #settle(left: Float32Array, planes: FittedPlane[], out: number): Float32Array {
    const { n, moment } = this.#input;
    let rest = left;
    for (let round = 0; round < ROUNDS; round++) {
      for (const [p, before] of planes.entries()) {
        const target = addPlane(rest, before, n, 1);
        const signs = before.signs.slice();
        refineSigns(target, signs, before.rowScale, moment, out, n, SWEEPS);
        const plane = { signs, rowScale: this.#scale(target, signs, out) };
        planes[p] = plane;
        rest = addPlane(target, plane, n, -1);
      }
    }
    return rest;
  }

  #plane(target: Float32Array, out: number): FittedPlane {
    const { n, moment } = this.#input;
    let signs = plainSigns(target, out, n);
    let rowScale = this.#scale(target, signs, out);
    for (let round = 0; round < ROUNDS; round++) {
      signs = new Uint32Array(signs.length);
      chooseSigns(target, this.#feedback, rowScale, signs, out, n);
      rowScale = this.#scale(target, signs, out);
      refineSigns(target, signs, rowScale, moment, out, n, SWEEPS);
      rowScale = this.#scale(target, signs, out);
    }
    return { signs, rowScale };
  }

  #scale(target: Float32Array, signs: Uint32Array, out: number): Float32Array {
    const { n, moment } = this.#input;
    const [signTarget, signSign] = [new Float64Array(out), new Float64Array(out)];
    weightedProducts(target, signs, moment, out, n, signTarget, signSign, undefined);
    const ridge = (RIDGE * sum(signSign)) / out;
    return Float32Array.from(signTarget, (product, i) => {
      const mean = meanAbsolute(target.subarray(i * n, (i + 1) * n));
      return Math.max(0, (product + ridge * mean) / ((signSign[i] ?? 0) + ridge));
    });
  }

  /** Σ eᵀHe over the rows e of what is left. */
  #error(left: Float32Array, out: number): number {
    const { n, moment } = this.#input;
    const products = [new Float64Array(out), new Float64Array(out), new Float64Array(out)] as const;
    weightedProducts(left, plainSigns(left, out, n), moment, out, n, ...products);
    return sum(products[2]);
  }
}

/** Bit `i % 32` of word `i / 32` is 1 where the value is ≥ 0. */
function plainSigns(values: Float32Array, out: number, n: number): Uint32Array {
  const words = Math.ceil(n / 32);
  const signs = new Uint32Array(out * words);
  for (let i = 0; i < out; i++)
    for (let j = 0; j < n; j++) {
      const at = i * words + (j >> 5);
      if ((values[i * n + j] ?? 0) >= 0) signs[at] = ((signs[at] ?? 0) | (1 << (j & 31))) >>> 0;
    }
  return signs;
}

/** values + direction · plane */
function addPlane(values: Float32Array, { signs, rowScale }: FittedPlane, n: number, direction: 1 | -1): Float32Array {
  const words = Math.ceil(n / 32);
  return values.map((value, at) => {
    const [row, j] = [Math.floor(at / n), at % n];
    const isPositive = ((signs[row * words + (j >> 5)] ?? 0) >>> (j & 31)) & 1;
    const step = direction * (rowScale[row] ?? 0);
    return isPositive ? value + step : value - step;
  });
}

function meanAbsolute(values: Float32Array): number {
  let total = 0;
  for (const value of values) total += Math.abs(value);
  return total / values.length;
}

function sum(values: Float64Array): number {
  return values.reduce((total, value) => total + value, 0);
}
