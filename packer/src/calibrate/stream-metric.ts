/**
 * What an error in the residual stream costs: δᵀ G δ.
 *
 * With p the fine-tune's next token and J the derivative of its logits by the stream h through final norm and head, KL(p ‖ q) of a small change δ of h is
 * ½ δᵀ Jᵀ (diag(p) − p pᵀ) J δ. G is the mean of that Hessian over the tokens of answers: what the layers after δ make of it is left out, and only the
 * stream's own way to the head is counted. The output side of a Kronecker-factored Hessian, as in YAQA (arXiv 2505.22988), in closed form where that goes back
 * through the whole model. Most of it lies in the few directions that tell likely next tokens apart; errors are cheap in all others.
 */
import { type Checkpoint, modelParams } from '@signpost/engine';
import { addMoment } from '@signpost/kernels';
import { rowReader } from '../source/floats.ts';

/** Next tokens less likely than this are left out. */
const LEAST_LIKELY = 1e-3;
/** Rows that are gathered before they are added up. */
const BATCH_ROWS = 256;

/** Final norm and head. */
export interface ModelEnd {
  readonly gain: Float32Array; // (hidden)
  readonly epsilon: number;
  /** The head's row of a token, (hidden). */
  readonly headRow: (token: number) => Float32Array;
}

export class StreamMetric {
  readonly #end: ModelEnd;
  readonly #sum: Float32Array; // (hidden, hidden)
  readonly #batch: Float32Array; // (BATCH_ROWS, hidden)
  #rows = 0;

  constructor(end: ModelEnd) {
    const hidden = end.gain.length;
    this.#end = end;
    this.#sum = new Float32Array(hidden * hidden);
    this.#batch = new Float32Array(BATCH_ROWS * hidden);
  }

  static of(checkpoint: Checkpoint): StreamMetric {
    const { specs, norm, head } = modelParams(checkpoint.config);
    const rowsOf = (id: number) => {
      const spec = specs[id];
      const tensor = spec && checkpoint.tensors.get(spec.name);
      if (spec === undefined || tensor === undefined) throw new Error(`${checkpoint.dir} has no parameter ${id}`);
      return rowReader(tensor, checkpoint.param(spec).dtype);
    };
    const headRows = rowsOf(head);
    return new StreamMetric({
      gain: rowsOf(norm)(0, checkpoint.config.hidden),
      epsilon: checkpoint.config.rmsNormEps,
      headRow: (token) => headRows(token, token + 1),
    });
  }

  /** Adds Σ_y p_y g_y g_yᵀ, g_y = Jᵀ (1_y − p): one token's Hessian. `stream` is h, `next` p. */
  add(next: Float32Array /* (vocab) */, stream: Float32Array /* (hidden) */): void {
    const { gain, epsilon, headRow } = this.#end;
    const hidden = gain.length;
    const likely: { readonly share: number; readonly row: Float32Array }[] = [];
    for (let token = 0; token < next.length; token++) {
      const share = next[token] ?? 0;
      if (share >= LEAST_LIKELY) likely.push({ share, row: headRow(token) });
    }
    if (likely.length < 2) return;
    const mean = new Float64Array(hidden);
    for (const { share, row } of likely)
      for (let k = 0; k < hidden; k++) mean[k] = (mean[k] ?? 0) + share * (row[k] ?? 0);
    const size = Math.sqrt(stream.reduce((sum, value) => sum + value * value, 0) / hidden + epsilon);
    for (const { share, row } of likely) {
      if (this.#rows === BATCH_ROWS) this.#flush();
      const into = this.#batch.subarray(this.#rows * hidden, (this.#rows + 1) * hidden);
      this.#rows++;
      // The norm's derivative: what lies along h itself it takes away.
      let along = 0;
      for (let k = 0; k < hidden; k++) {
        const value = (gain[k] ?? 0) * ((row[k] ?? 0) - (mean[k] ?? 0));
        into[k] = value;
        along += value * (stream[k] ?? 0);
      }
      const [root, back] = [Math.sqrt(share) / size, along / (hidden * size * size)];
      for (let k = 0; k < hidden; k++) into[k] = root * ((into[k] ?? 0) - back * (stream[k] ?? 0));
    }
  }

  /** The sum of all tokens' Hessians. */
  finish(): Float32Array {
    this.#flush();
    return this.#sum;
  }

  #flush(): void {
    const hidden = this.#end.gain.length;
    const rows = this.#batch.subarray(0, this.#rows * hidden);
    if (this.#rows > 0) addMoment(this.#sum, rows, rows, hidden, hidden);
    this.#rows = 0;
  }
}
