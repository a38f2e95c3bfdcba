/**
 * Signs and scales of one matrix, chosen by what its inputs look like. Closed forms only, no back-propagation.
 *
 * With H = E[x̂ x̂ᵀ] + δI of the inputs in the model as compressed so far:
 *
 * - target: t = Δ_i + (w_i D + R_i) H⁻¹ with D = E[(x − x̂) x̂ᵀ], the least-squares row that also makes up for what the layers before did to the input
 *   (asymmetric calibration, GPTAQ, arXiv 2504.02692); where the output is added to the residual stream h, R = E[(h − ĥ) x̂ᵀ]: what the stream has lost
 *   so far is asked of the same least squares, so that errors don't pile up from layer to layer;
 * - scale: r = (sᵀHt + λa) / (sᵀHs + λ), clamped at 0: ridge regression towards the plain scale a = mean |t|, λ = 0.02 × the mean of sᵀHs over rows;
 * - signs: from left to right, each of the weight and the feedback of the errors before it (GPTQ, arXiv 2210.17323, in the LDL form of QuIP, arXiv
 *   2307.13304, algorithm 3); then single signs are flipped as long as that lessens eᵀHe (coordinate descent);
 * - rows of a matrix that writes to the residual stream are then fitted anew, to what makes up for the other rows' errors where logits in doubt depend on
 *   them (row-feedback.ts);
 * - column scales c, where wanted: least squares given signs and row scales (column-scales.ts), in turn with those;
 * - further planes: the same for what is left, then each again for what the others leave.
 */
import { chooseSigns, correctTargets, refineSigns, weightedSquares } from '@signpost/kernels';
import type { Plane } from '../pack/difference.ts';
import { rowColPlane } from '../pack/row-col.ts';
import { columnScales, dividable, type Space, scaledSpace, scaledTarget } from './column-scales.ts';
import { addPlane, rowScales, SWEEPS, sum } from './plane.ts';
import { makeUpForRows, type RowFeedback } from './row-feedback.ts';
import type { InputStatistics } from './statistics.ts';

/** Of all that is fitted here, counted up whenever it comes out otherwise: what a killed run of another version has left is not gone on with. */
export const CALIBRATION_VERSION = 3;

/** Signs by scales by signs …: the second time from scales that fit. */
const ROUNDS = 2;
/** What a plane's rows make up for: while it is made those before them, then all. */
const FIRST_PASSES = ['before', 'all', 'all'] as const;

/** What has a scale of its own in a calibrated plane: rows, or rows and columns. */
export type CalibratedScale = 'row' | 'row-col';

/** Linear layer (out, n) as the fine-tune has it, and its difference from the base. */
export interface LinearDifference {
  readonly out: number;
  readonly tuned: Float32Array; // (out, n)
  readonly difference: Float32Array; // (out, n)
}

interface Step {
  readonly planes: readonly Plane[];
  /** Of what the planes are to be, (out, n). */
  readonly left: Float32Array;
}

export class MatrixFit {
  readonly #input: InputStatistics;
  readonly #scale: CalibratedScale;

  constructor(input: InputStatistics, scale: CalibratedScale) {
    this.#input = input;
    this.#scale = scale;
  }

  fit(matrix: LinearDifference, planes: number): readonly Plane[] {
    let fitted: readonly Plane[] = [];
    for (const step of this.#steps(matrix, planes, this.#input.feedback)) fitted = step.planes;
    return fitted;
  }

  /** Fits as many planes, each row by itself, for those errors are comparable. Gives the first, and Σ_rows eᵀHe before any plane, after the first, after the second …: (planes + 1). */
  measure(matrix: LinearDifference, planes: number): { readonly first: Plane | undefined; readonly errors: number[] } {
    let first: Plane | undefined;
    const errors: number[] = [];
    for (const { planes: fitted, left } of this.#steps(matrix, planes)) {
      first ??= fitted[0];
      errors.push(this.#error(left, matrix.out));
    }
    return { first, errors };
  }

  /** Fits as many planes. Gives the first, and what is left of the target after it, after the second …: (planes). */
  leftovers(
    matrix: LinearDifference,
    planes: number,
  ): { readonly first: Plane | undefined; readonly left: readonly Float32Array[] } {
    const steps = [...this.#steps(matrix, planes, this.#input.feedback)].slice(1);
    return { first: steps[0]?.planes[0], left: steps.map(({ left }) => left) };
  }

  /** What is left before any plane, then with one more after the other. */
  *#steps(
    { out, tuned, difference }: LinearDifference,
    planes: number,
    feedback?: RowFeedback,
  ): Generator<Step, void, void> {
    const { n, cross, factor, drift } = this.#input;
    let left: Float32Array = difference.slice();
    correctTargets(left, tuned, cross, factor, drift, out, n);
    const fitted: Plane[] = [];
    yield { planes: [], left };
    for (let p = 0; p < planes; p++) {
      const alone = this.#plane(left, out);
      const plane = feedback === undefined ? alone : makeUpForRows(this.#input, left, alone, feedback, FIRST_PASSES);
      fitted.push(plane);
      left = addPlane(left, plane, n, -1);
      if (p > 0) left = this.#settle(left, fitted, out, feedback);
      yield { planes: [...fitted], left };
    }
  }

  /** Fits each plane again to what the others leave, now that all are there. Gives what is left then; changes `planes` in place. */
  #settle(left: Float32Array, planes: Plane[], out: number, feedback: RowFeedback | undefined): Float32Array {
    const { n } = this.#input;
    let rest = left;
    for (let round = 0; round < ROUNDS; round++) {
      for (const [p, before] of planes.entries()) {
        const target = addPlane(rest, before, n, 1);
        const plane =
          feedback === undefined
            ? this.#refitted(target, before, out)
            : makeUpForRows(this.#input, target, before, feedback, ['all']);
        planes[p] = plane;
        rest = addPlane(target, plane, n, -1);
      }
    }
    return rest;
  }

  /** The plane with signs and row scales that fit a target like the one they were made for. */
  #refitted(target: Float32Array, { colScale, ...before }: Plane, out: number): Plane {
    const space = scaledSpace(this.#input, colScale);
    const scaled = scaledTarget(target, colScale);
    const signs = before.signs.slice();
    refineSigns(scaled, signs, before.rowScale, space.moment, out, this.#input.n, SWEEPS);
    const rowScale = rowScales(space, scaled, signs, plainRows(scaled, out));
    return { signs, rowScale, ...(colScale === undefined ? {} : { colScale }) };
  }

  #plane(target: Float32Array, out: number): Plane {
    return this.#scale === 'row' ? this.#rowPlane(target, out) : this.#rowColPlane(target, out);
  }

  #rowPlane(target: Float32Array, out: number): Plane {
    const plain = plainRows(target, out);
    let signs = plainSigns(target, out, this.#input.n);
    let rowScale = rowScales(this.#input, target, signs, plain);
    for (let round = 0; round < ROUNDS; round++)
      ({ signs, rowScale } = chooseAndRefine(this.#input, target, rowScale, plain));
    return { signs, rowScale };
  }

  /** With c held, diag(c)⁻¹ t is fitted by rows in the space of diag(c) H diag(c); then c anew. */
  #rowColPlane(target: Float32Array, out: number): Plane {
    const { n, moment } = this.#input;
    const { colScale: columns, ...plain } = rowColPlane(target, out, n);
    const plainColumns = dividable(columns);
    let { signs, rowScale } = plain;
    let colScale: Float32Array = plainColumns;
    for (let round = 0; round < ROUNDS; round++) {
      const space = scaledSpace(this.#input, colScale);
      const scaled = scaledTarget(target, colScale);
      rowScale = rowScales(space, scaled, signs, plain.rowScale);
      ({ signs, rowScale } = chooseAndRefine(space, scaled, rowScale, plain.rowScale));
      colScale = columnScales({ target, signs, rowScale, moment, n }, plainColumns);
    }
    const space = scaledSpace(this.#input, colScale);
    rowScale = rowScales(space, scaledTarget(target, colScale), signs, plain.rowScale);
    return { signs, rowScale, colScale };
  }

  /** Σ eᵀHe over the rows e of what is left. */
  #error(left: Float32Array, out: number): number {
    const squares = new Float64Array(out);
    weightedSquares(left, this.#input.moment, out, this.#input.n, squares);
    return sum(squares);
  }
}

function chooseAndRefine(
  { n, moment, factor }: Space,
  target: Float32Array,
  before: Float32Array,
  plain: Float32Array,
): { signs: Uint32Array; rowScale: Float32Array } {
  const out = plain.length;
  const signs = new Uint32Array(out * Math.ceil(n / 32));
  chooseSigns(target, factor, before, signs, out, n);
  const rowScale = rowScales({ n, moment }, target, signs, plain);
  refineSigns(target, signs, rowScale, moment, out, n, SWEEPS);
  return { signs, rowScale: rowScales({ n, moment }, target, signs, plain) };
}

/** Mean absolute value of each row. */
function plainRows(target: Float32Array, out: number): Float32Array {
  const n = target.length / out;
  return Float32Array.from({ length: out }, (_, i) => {
    let total = 0;
    for (const value of target.subarray(i * n, (i + 1) * n)) total += Math.abs(value);
    return total / n;
  });
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
