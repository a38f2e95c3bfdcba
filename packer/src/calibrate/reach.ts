/**
 * How much tokens count in each layer: as far as they reach the tokens that choose an answer's.
 *
 * What a token computes in the last layer counts as much as its own next token; its key and value as much as those count that read them. An error δ of a value
 * that a head reads with share p becomes p δ, so counts p²: with ω_i how much the stream of token i counts behind a layer, those of its keys and values count
 * κ_j = mean over heads of Σ_i p_ij² ω_i, and the stream before it ω_j + κ_j. Errors of different tokens are taken to be independent, residual streams to pass
 * a layer as they are: attention rollout (arXiv 2005.00928), for squares of errors, from the end to the beginning.
 */
import type { ModelConfig, StageAttention } from '@signpost/engine';
import { readings } from './attention.ts';

/** Spread evenly over all tokens, so that what no answer needs isn't left out altogether: as a share of the rest. */
const FLOOR = 0.1;
/** Squares of shares below this are left out. */
const LEAST_SQUARE = 1e-4;

/** Of all tokens, in order; each sums to 1. */
export interface LayerWeights {
  /** Of what a token computes for itself: all but keys and values. */
  readonly own: Float32Array;
  /** Of keys and values. */
  readonly read: Float32Array;
}

/** Σ over heads of p², where it is not next to nothing. */
interface Squares {
  readonly reader: Int32Array;
  readonly read: Int32Array;
  readonly square: Float32Array;
}

export class Reach {
  readonly #config: ModelConfig;
  /** By layer, chunk by chunk. */
  readonly #layers: Squares[][] = [];

  constructor(config: ModelConfig) {
    this.#config = config;
  }

  /** The next layer's attention. */
  async add(attention: AsyncIterable<StageAttention>): Promise<void> {
    const chunks: Squares[] = [];
    let before = 0;
    for await (const chunk of attention) {
      chunks.push(this.#squares(chunk, before));
      before += chunk.sequenceStart.at(-1) ?? 0;
    }
    this.#layers.push(chunks);
  }

  #squares(chunk: StageAttention, before: number): Squares {
    const { heads } = this.#config;
    const [reader, read, square]: [number[], number[], number[]] = [[], [], []];
    let sums = new Float32Array();
    for (const { reader: row, head, first, shares } of readings(chunk, this.#config)) {
      if (head === 0) sums = new Float32Array(shares.length);
      for (let t = 0; t < shares.length; t++) sums[t] = (sums[t] ?? 0) + (shares[t] ?? 0) ** 2 / heads;
      if (head < heads - 1) continue;
      for (const [t, value] of sums.entries()) {
        if (value < LEAST_SQUARE) continue;
        reader.push(before + row);
        read.push(before + first + t);
        square.push(value);
      }
    }
    return { reader: Int32Array.from(reader), read: Int32Array.from(read), square: Float32Array.from(square) };
  }

  /** By layer. @param ends how much each token's end counts. */
  weights(ends: Float64Array): LayerWeights[] {
    const layers: LayerWeights[] = [];
    let stream = ends;
    for (const chunks of this.#layers.toReversed()) {
      const read = new Float64Array(stream.length);
      for (const squares of chunks)
        for (const [k, value] of squares.square.entries()) {
          const to = squares.read[k] ?? 0;
          read[to] = (read[to] ?? 0) + value * (stream[squares.reader[k] ?? 0] ?? 0);
        }
      layers.push({ own: spread(stream), read: spread(read) });
      stream = stream.map((weight, token) => weight + (read[token] ?? 0));
    }
    return layers.reverse();
  }
}

function spread(weights: Float64Array): Float32Array {
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  const even = 1 / weights.length;
  if (total === 0) return new Float32Array(weights.length).fill(even);
  return Float32Array.from(weights, (weight) => (weight / total + FLOOR * even) / (1 + FLOOR));
}
