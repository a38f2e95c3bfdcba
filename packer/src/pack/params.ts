/**
 * The parts of a delta, parameter by parameter in execution order: computed plainly, or by calibration on what the layers before have become.
 */
import type { ParamDelta } from '@signpost/engine';
import { type CalibratedScale, MatrixFit } from '../calibrate/fit.ts';
import { addPlane } from '../calibrate/plane.ts';
import type { ErrorProbe } from '../calibrate/probe.ts';
import type { CalibrationStage, CalibrationWalk } from '../calibrate/statistics.ts';
import {
  addedRows,
  binarise,
  brainOf,
  differenceOf,
  type Exact,
  exactDifference,
  floatsOf,
  type Plane,
  squareSum,
} from './difference.ts';
import type { Layout, PlannedMatrix, PlannedParam } from './plan.ts';

/** One parameter's part of a delta. */
export type PackedParam =
  | { readonly kind: 'exact'; readonly exact: Exact }
  | { readonly kind: 'added'; readonly rows: Uint16Array }
  | {
      readonly kind: '1bit';
      readonly planes: readonly Plane[];
      /** ‖Δ − Δ̂‖ / ‖Δ‖ with all planes. */
      readonly error: number;
    };

export interface ParamSource {
  /** Parameters must be asked for in the order of the plan. */
  pack(param: PlannedParam, planes: number): Promise<PackedParam>;
  /**
   * Of a 1-bit matrix, what planes are chosen by, before any, after the first, after the second …: Σ (Δ − Δ̂)², with calibration the squared error of the
   * outputs over the calibration tokens, and with a probe what it costs in KL (Infinity before any plane). What comes after sees the first plane alone. Every
   * parameter must be asked for, in order.
   */
  measure(param: PlannedParam, planes: number): Promise<readonly number[]>;
  /** Takes a parameter that was packed before, in place of `pack`. */
  skip(param: PlannedParam, delta: ParamDelta): Promise<void>;
}

/** By the difference alone. */
export class PlainSource implements ParamSource {
  readonly #layout: Pick<Layout, 'scale' | 'exact'>;

  constructor(layout: Pick<Layout, 'scale' | 'exact'>) {
    this.#layout = layout;
  }

  async pack(param: PlannedParam, planes: number): Promise<PackedParam> {
    if (param.kind === 'added') return { kind: 'added', rows: addedRows(param) };
    if (param.kind === 'exact') return { kind: 'exact', exact: exactDifference(param, this.#layout.exact) };
    const { planes: packed, squared } = binarise(param, this.#layout.scale, planes);
    const [whole = 0] = squared;
    return { kind: '1bit', planes: packed, error: Math.sqrt((squared.at(-1) ?? 0) / whole) };
  }

  async measure(param: PlannedParam, planes: number): Promise<readonly number[]> {
    return param.kind === '1bit' ? binarise(param, this.#layout.scale, planes).squared : [];
  }

  async skip(): Promise<void> {}
}

/** By the difference and the inputs of each layer; the walk goes on through what has been packed. */
export class CalibratedSource implements ParamSource {
  readonly #walk: CalibrationWalk;
  readonly #stages: AsyncGenerator<CalibrationStage, void, void>;
  readonly #exact: Layout['exact'];
  readonly #scale: CalibratedScale;
  /** What was loaded last: added rows follow what else there is of their parameter. */
  #last: { readonly stem: string; readonly delta: ParamDelta } | undefined;
  #stage: CalibrationStage | undefined;

  readonly #probe: ErrorProbe | undefined;

  constructor(walk: CalibrationWalk, exact: Layout['exact'], scale: CalibratedScale, probe?: ErrorProbe) {
    this.#walk = walk;
    this.#probe = probe;
    this.#stages = walk.stages();
    this.#exact = exact;
    this.#scale = scale;
  }

  async pack(param: PlannedParam, planes: number): Promise<PackedParam> {
    if (param.kind === 'added') {
      const rows = addedRows(param);
      this.#load(param.stem, { planes: [], added: rows });
      return { kind: 'added', rows };
    }
    if (param.kind === 'exact') {
      const exact = exactDifference(param, this.#exact);
      this.#load(param.stem, { planes: [], exact: brainOf(exact) });
      return { kind: 'exact', exact };
    }
    const fit = await this.#fitOf(param.stem);
    const difference = differenceOf(param);
    const fitted = fit.fit({ out: param.out, tuned: floatsOf(param.tuned), difference }, planes);
    this.#load(param.stem, { planes: fitted });
    return { kind: '1bit', planes: fitted, error: relativeError(difference, fitted, param) };
  }

  async measure(param: PlannedParam, planes: number): Promise<readonly number[]> {
    if (param.kind !== '1bit') {
      await this.pack(param, planes);
      return [];
    }
    const fit = await this.#fitOf(param.stem);
    const matrix = { out: param.out, tuned: floatsOf(param.tuned), difference: differenceOf(param) };
    if (this.#probe === undefined) {
      const { first, errors } = fit.measure(matrix, planes);
      this.#load(param.stem, { planes: first === undefined ? [] : [first] });
      return errors;
    }
    const { first, left } = fit.leftovers(matrix, planes);
    this.#load(param.stem, { planes: first === undefined ? [] : [first] });
    const costs = [Number.POSITIVE_INFINITY];
    for (const error of left) costs.push(await this.#probe.cost(param.stem, error));
    return costs;
  }

  async skip({ stem, kind }: PlannedParam, delta: ParamDelta): Promise<void> {
    if (kind === '1bit') await this.#reach(stem);
    this.#load(stem, delta);
  }

  #load(stem: string, delta: ParamDelta): void {
    const whole = this.#last?.stem === stem ? { ...this.#last.delta, ...delta } : delta;
    this.#last = { stem, delta: whole };
    this.#walk.load(stem, whole);
  }

  async #fitOf(stem: string): Promise<MatrixFit> {
    const stage = await this.#reach(stem);
    return new MatrixFit(await stage.statistics(stem), this.#scale);
  }

  async #reach(stem: string): Promise<CalibrationStage> {
    while (this.#stage?.stems.includes(stem) !== true) {
      const next = await this.#stages.next();
      if (next.done === true)
        throw new Error(`${stem} is no linear layer that the model comes to, or stands out of order`);
      this.#stage = next.value;
    }
    return this.#stage;
  }
}

function relativeError(difference: Float32Array, planes: readonly Plane[], { inDim }: PlannedMatrix): number {
  const left = planes.reduce((rest, plane) => addPlane(rest, plane, inDim, -1), difference);
  return Math.sqrt(squareSum(left) / squareSum(difference));
}
