/**
 * How much of each earlier token a token reads: the softmax of queries and keys, head by head.
 */
import type { ModelConfig, StageAttention } from '@signpost/engine';

/** What one head of one token reads; rows are those of the chunk. */
export interface Reading {
  readonly reader: number;
  readonly head: number;
  /** Row of the first token that is read. */
  readonly first: number;
  /** Of the tokens from `first` to the reader, summing to 1; until the next reading. */
  readonly shares: Float32Array;
}

type AttentionShape = Pick<ModelConfig, 'heads' | 'kvHeads' | 'headDim' | 'slidingWindow'>;

export function* readings(
  { queries, keys, sequenceStart }: StageAttention,
  { heads, kvHeads, headDim, slidingWindow }: AttentionShape,
): Generator<Reading, void, void> {
  const scale = headDim ** -0.5;
  for (const [sequence, begin] of sequenceStart.entries()) {
    const end = sequenceStart[sequence + 1] ?? begin;
    const room = new Float32Array(end - begin);
    for (let reader = begin; reader < end; reader++) {
      const first = slidingWindow > 0 ? Math.max(begin, reader + 1 - slidingWindow) : begin;
      const shares = room.subarray(0, reader + 1 - first);
      for (let head = 0; head < heads; head++) {
        const query = (reader * heads + head) * headDim;
        const kvHead = Math.floor((head * kvHeads) / heads);
        let largest = Number.NEGATIVE_INFINITY;
        for (let t = 0; t < shares.length; t++) {
          const key = ((first + t) * kvHeads + kvHead) * headDim;
          let product = 0;
          for (let i = 0; i < headDim; i++) product += (queries[query + i] ?? 0) * (keys[key + i] ?? 0);
          shares[t] = scale * product;
          largest = Math.max(largest, scale * product);
        }
        let total = 0;
        for (let t = 0; t < shares.length; t++) {
          const share = Math.exp((shares[t] ?? 0) - largest);
          shares[t] = share;
          total += share;
        }
        for (let t = 0; t < shares.length; t++) shares[t] = (shares[t] ?? 0) / total;
        yield { reader, head, first, shares };
      }
    }
  }
}
