/**
 * What the inputs of linear layers look like, layer by layer: in the model as compressed so far, and how far they are from the fine-tune's.
 *
 * Two walks in step, one over the base with the deltas made so far, one over the fine-tune.
 */
import { Problem } from '@signpost/contracts';
import { type Checkpoint, LayerWalk, type ParamDelta, type WalkStage } from '@signpost/engine';
import { addMoment, factorMoment } from '@signpost/kernels';
import type { CalibrationSequence } from './prompts.ts';

/** How much more a token of the answer counts than one of the prompt: it is the answers that an expert is asked for. */
const ANSWER_WEIGHT = 32;
/** Added to the moment's diagonal, as a share of its mean, as GPTQ does (arXiv 2210.17323, section 3.3, with 0.01). */
const DAMPING = 0.005;

/** Inputs of some linear layers, as second moments over the calibration tokens; x̂ in the compressed model, x in the fine-tune. */
export interface InputStatistics {
  readonly n: number;
  /** H = E[x̂ x̂ᵀ] + δI, (n, n). */
  readonly moment: Float64Array;
  /** U with H = U Uᵀ, upper triangular, (n, n). */
  readonly factor: Float64Array;
  /** D = E[(x − x̂) x̂ᵀ], (n, n). */
  readonly cross: Float64Array;
}

/** A halt of the walk: linear layers that are about to be computed from one input. */
export interface CalibrationStage {
  readonly stems: readonly string[];
  /** @throws Problem when the inputs are not finite. */
  statistics(): Promise<InputStatistics>;
}

export class CalibrationWalk {
  readonly #compressed: LayerWalk;
  readonly #tuned: LayerWalk;
  readonly #weights: Float32Array;

  constructor(base: Checkpoint, tuned: Checkpoint, sequences: readonly CalibrationSequence[]) {
    const tokens = sequences.map((sequence) => sequence.tokens);
    this.#compressed = new LayerWalk(base, tokens);
    this.#tuned = new LayerWalk(tuned, tokens);
    // What is computed at the last token of the prompt is the answer's first.
    const raw = sequences.flatMap(({ tokens: { length }, answerStart }) =>
      Array.from({ length }, (_, at) => (at >= answerStart - 1 ? ANSWER_WEIGHT : 1)),
    );
    const total = raw.reduce((sum, weight) => sum + weight, 0);
    this.#weights = Float32Array.from(raw, (weight) => Math.sqrt(weight / total));
  }

  /** What a parameter has been compressed to: from here on the walk goes through it. */
  load(stem: string, delta: ParamDelta): void {
    this.#compressed.load(stem, delta);
  }

  *stages(): Generator<CalibrationStage, void, void> {
    const tuned = this.#tuned.stages();
    for (const stage of this.#compressed.stages()) {
      const reference = tuned.next().value;
      if (reference === undefined) throw new Error('the fine-tune has fewer layers than the base');
      yield { stems: stage.stems, statistics: () => this.#statistics(stage, reference) };
    }
  }

  async #statistics({ stems, inDim: n, input }: WalkStage, reference: WalkStage): Promise<InputStatistics> {
    const compressed = this.#weighted(await input(), n);
    const moment = new Float64Array(n * n);
    addMoment(moment, compressed, compressed, n);
    const missing = this.#weighted(await reference.input(), n);
    missing.forEach((value, i) => {
      missing[i] = value - (compressed[i] ?? 0);
    });
    const cross = new Float64Array(n * n);
    addMoment(cross, missing, compressed, n);
    damp(moment, n);
    const factor = moment.slice();
    if (factorMoment(factor, n) !== -1)
      throw new Problem(`the inputs of ${stems.join(', ')} are not finite on the calibration prompts`);
    return { n, moment, factor, cross };
  }

  close(): void {
    this.#compressed.close();
    this.#tuned.close();
  }

  #weighted(x: Float32Array, n: number): Float32Array {
    for (const [row, weight] of this.#weights.entries())
      for (let i = row * n; i < (row + 1) * n; i++) x[i] = (x[i] ?? 0) * weight;
    return x;
  }
}

function damp(moment: Float64Array, n: number): void {
  let trace = 0;
  for (let i = 0; i < n; i++) trace += moment[i * n + i] ?? 0;
  // An input that is never there has no moment; it must not make the matrix singular.
  const extra = Math.max((DAMPING * trace) / n, Number.MIN_VALUE);
  for (let i = 0; i < n; i++) moment[i * n + i] = (moment[i * n + i] ?? 0) + extra;
}
