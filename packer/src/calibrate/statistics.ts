/**
 * What the inputs of linear layers look like, layer by layer: in the model as compressed so far, and how far they are from the fine-tune's.
 *
 * Two walks in step, one over the base with the deltas made so far, one over the fine-tune.
 */
import { Problem } from '@signpost/contracts';
import { type Checkpoint, LayerWalk, type ParamDelta, type WalkStage } from '@signpost/engine';
import { addMoment, factorMoment } from '@signpost/kernels';
import type { Importance } from './importance.ts';
import type { CalibrationSequence } from './prompts.ts';
import type { LayerWeights } from './reach.ts';
import { type RowFeedback, rowFeedback } from './row-feedback.ts';

/** Added to the moment's diagonal, as a share of its mean, as GPTQ does (arXiv 2210.17323, section 3.3, with 0.01). */
const DAMPING = 0.005;

/**
 * The last layers, where errors come to the head much as they are, and only there: this share of all. What is added to the metric's diagonal, as a share of its
 * mean, grows with the share of layers that are still to come, each of which reads other directions, too.
 */
const METRIC_LAYERS = 1 / 3;
const metricDamping = (toCome: number) => 0.1 + 0.9 * toCome;

/** Inputs of some linear layers, as second moments over the calibration tokens; x̂ in the compressed model, x in the fine-tune. */
export interface InputStatistics {
  readonly n: number;
  /** H = E[x̂ x̂ᵀ] + δI, (n, n). */
  readonly moment: Float32Array;
  /** U with H = U Uᵀ, upper triangular, and Uᵀ below the diagonal, (n, n). */
  readonly factor: Float32Array;
  /** D = E[(x − x̂) x̂ᵀ], (n, n). */
  readonly cross: Float32Array;
  /** R = E[(h − ĥ) x̂ᵀ], (hidden, n), where the output is added to the residual stream: h is the stream in the fine-tune, ĥ in the compressed model. */
  readonly drift: Float32Array | undefined;
  /** What errors of the output cost, where it is added to the residual stream of one of the last layers. */
  readonly feedback?: RowFeedback | undefined;
}

/** A halt of the walk: linear layers that are about to be computed from one input. */
export interface CalibrationStage {
  readonly stems: readonly string[];
  /**
   * Weighted as the tokens count for this layer's output.
   *
   * @throws Problem when the inputs are not finite.
   */
  statistics(stem: string): Promise<InputStatistics>;
}

export class CalibrationWalk {
  readonly #compressed: LayerWalk;
  readonly #tuned: LayerWalk;
  /** Square roots of the tokens' weights, by layer. */
  readonly #weights: readonly LayerWeights[];
  readonly #metric: Float32Array;
  readonly #layers: number;

  constructor(
    base: Checkpoint,
    tuned: Checkpoint,
    { sequences, weights, metric }: Importance & { readonly sequences: readonly CalibrationSequence[] },
  ) {
    const tokens = sequences.map((sequence) => sequence.tokens);
    this.#compressed = new LayerWalk(base, tokens);
    this.#tuned = new LayerWalk(tuned, tokens);
    this.#weights = weights.map(({ own, read }) => ({ own: own.map(Math.sqrt), read: read.map(Math.sqrt) }));
    this.#metric = metric;
    this.#layers = base.config.layers;
  }

  /** What a parameter has been compressed to: from here on the walk goes through it. */
  load(stem: string, delta: ParamDelta): void {
    this.#compressed.load(stem, delta);
  }

  async *stages(): AsyncGenerator<CalibrationStage, void, void> {
    const tuned = this.#tuned.stages();
    for await (const stage of this.#compressed.stages()) {
      const reference = (await tuned.next()).value;
      if (reference === undefined) throw new Error('the fine-tune has fewer layers than the base');
      const weights = this.#weights[stage.layer];
      if (weights === undefined) throw new Error(`no token counts in layer ${stage.layer}`);
      const own = once(() => this.#statistics(stage, reference, weights.own));
      const read = once(() => this.#statistics(stage, reference, weights.read));
      const of = (stem: string) => (stage.readByLater.includes(stem) ? read : own);
      yield { stems: stage.stems, statistics: (stem) => of(stem)() };
    }
  }

  async #statistics(stage: WalkStage, reference: WalkStage, roots: Float32Array): Promise<InputStatistics> {
    const n = stage.inDim;
    const [moment, cross] = [new Float32Array(n * n), new Float32Array(n * n)];
    let drift: Float32Array | undefined;
    const theirs = reference.inputs();
    let row = 0;
    for await (const ours of stage.inputs()) {
      const tuned = (await theirs.next()).value;
      if (tuned === undefined) throw new Error('the fine-tune’s walk has fewer chunks');
      const weights = roots.subarray(row, row + ours.input.length / n);
      row += weights.length;
      const lost = weighted(difference(tuned.input, ours.input), weights);
      const input = weighted(ours.input, weights);
      addMoment(moment, input, input, n, n);
      addMoment(cross, lost, input, n, n);
      if (ours.addedTo === undefined || tuned.addedTo === undefined) continue;
      const stream = weighted(difference(tuned.addedTo, ours.addedTo), weights);
      const hidden = stream.length / weights.length;
      drift ??= new Float32Array(hidden * n);
      addMoment(drift, stream, input, hidden, n);
    }
    damp(moment, n);
    const factor = moment.slice();
    if (factorMoment(factor, n) !== -1)
      throw new Problem(`the inputs of ${stage.stems.join(', ')} are not finite on the calibration prompts`);
    return { n, moment, factor, cross, drift, feedback: drift && this.#feedback(stage.layer) };
  }

  #feedback(layer: number): RowFeedback | undefined {
    const toCome = (this.#layers - 1 - layer) / this.#layers;
    return toCome < METRIC_LAYERS ? rowFeedback(this.#metric, metricDamping(toCome)) : undefined;
  }

  close(): void {
    this.#compressed.close();
    this.#tuned.close();
  }
}

/** Multiplies each row by its weight, in place. */
function weighted(x: Float32Array, weights: Float32Array): Float32Array {
  const n = x.length / weights.length;
  for (const [row, weight] of weights.entries())
    for (let i = row * n; i < (row + 1) * n; i++) x[i] = (x[i] ?? 0) * weight;
  return x;
}

/** x − y, in place of x. */
function difference(x: Float32Array, y: Float32Array): Float32Array {
  for (let i = 0; i < x.length; i++) x[i] = (x[i] ?? 0) - (y[i] ?? 0);
  return x;
}

function damp(moment: Float32Array, n: number): void {
  let trace = 0;
  for (let i = 0; i < n; i++) trace += moment[i * n + i] ?? 0;
  // An input that is never there has no moment; it must not make the matrix singular.
  const extra = Math.max((DAMPING * trace) / n, Number.MIN_VALUE);
  for (let i = 0; i < n; i++) moment[i * n + i] = (moment[i * n + i] ?? 0) + extra;
}

/** What `make` gives, made when it is first asked for. */
function once<T>(make: () => T): () => T {
  let made: { readonly value: T } | undefined;
  return () => {
    made ??= { value: make() };
    return made.value;
  };
}
