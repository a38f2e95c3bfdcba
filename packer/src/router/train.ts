/**
 * Training a router: prompts and token embeddings in, an ONNX graph out.
 *
 * Several networks are trained from different seeds and merged into one wider graph whose logits are their mean: an ensemble at the price of its
 * hidden units, since the token embeddings, which are most of the file and of the work, are shared.
 */
import { HASH_BUCKETS } from '@signpost/contracts/router';
import { quantiseRows } from '../quantise.ts';
import type { PreparedPrompt, TokenEmbedding } from './data.ts';
import { type Example, Network, type TrainOptions } from './network.ts';
import type { RouterGraph } from './onnx.ts';

export interface RouterOptions extends Omit<TrainOptions, 'seed'> {
  /** Networks in the ensemble. */
  readonly members: number;
  /** Dimensions of each member's hashed embeddings. */
  readonly hashDim: number;
  readonly hidden: number;
  /** Rows count by their source's size to the power of minus this: 0 all the same, 1 every source the same. */
  readonly sourceBalance: number;
  readonly seed: number;
}

/** Chosen on whole sources held out of the training set (five folds) and on the validation set; the seed is the better of two there. */
export const ROUTER_DEFAULTS: RouterOptions = {
  members: 3,
  hashDim: 6,
  hidden: 64,
  epochs: 10,
  batch: 64,
  learningRate: 2e-3,
  weightDecay: 1e-2,
  dropout: 0.3,
  wordDropout: 0.3,
  branchDropout: 0.05,
  labelSmoothing: 0.1,
  sourceBalance: 0.5,
  seed: 11,
};

/** Mean and spread of each pooled feature over the training set. */
interface Standard {
  readonly mean: Float64Array;
  readonly deviation: Float64Array;
}

/** Trains on `prompts`; `onEpoch` hears of each epoch of each member. */
export function trainRouter(
  prompts: readonly PreparedPrompt[],
  labels: readonly string[],
  embedding: TokenEmbedding,
  options: RouterOptions,
  onEpoch: (member: number, epoch: number, loss: number) => void,
): RouterGraph {
  const standard = standardOf(prompts);
  const weights = sourceWeights(prompts, options.sourceBalance);
  const examples = prompts.map(
    ({ pooled, hashIds, label }, i): Example => ({
      pooled: pooled.map((value, k) => (value - (standard.mean[k] ?? 0)) / (standard.deviation[k] ?? 1)),
      hashIds,
      label: labels.indexOf(label),
      weight: weights[i] ?? 1,
    }),
  );
  const sizes = { pooled: 2 * embedding.dim, hashDim: options.hashDim, hidden: options.hidden, labels: labels.length };
  const networks = Array.from({ length: options.members }, (_, member) => {
    const network = new Network(sizes, options.seed + member);
    network.train(examples, { ...options, seed: options.seed + member }, (epoch, loss) =>
      onEpoch(member + 1, epoch, loss),
    );
    return network;
  });
  return merge(networks, standard, embedding);
}

/** A large source must not decide alone what its label sounds like. */
function sourceWeights(prompts: readonly PreparedPrompt[], balance: number): number[] {
  const counts = new Map<string, number>();
  for (const { source } of prompts) counts.set(source, (counts.get(source) ?? 0) + 1);
  const raw = prompts.map(({ source }) => (counts.get(source) ?? 1) ** -balance);
  const mean = raw.reduce((sum, weight) => sum + weight, 0) / raw.length;
  return raw.map((weight) => weight / mean);
}

function standardOf(prompts: readonly PreparedPrompt[]): Standard {
  const size = prompts[0]?.pooled.length ?? 0;
  const [mean, square] = [new Float64Array(size), new Float64Array(size)];
  for (const { pooled } of prompts) {
    pooled.forEach((value, k) => {
      mean[k] = (mean[k] ?? 0) + value / prompts.length;
      square[k] = (square[k] ?? 0) + (value * value) / prompts.length;
    });
  }
  // A feature that never varies says nothing; its spread is kept from being 0.
  return { mean, deviation: square.map((value, k) => Math.sqrt(Math.max(1e-8, value - (mean[k] ?? 0) ** 2))) };
}

/** One graph whose logits are the mean of the members', with the standardisation folded into the first layer. */
function merge(networks: readonly Network[], { mean, deviation }: Standard, embedding: TokenEmbedding): RouterGraph {
  const [{ sizes }] = networks as [Network, ...Network[]];
  const { pooled, hashDim, labels } = sizes;
  const members = networks.length;
  const hidden = members * sizes.hidden;
  const inputs = pooled + members * hashDim;
  const table = new Float32Array(HASH_BUCKETS * members * hashDim);
  const w1 = new Float32Array(inputs * hidden);
  const b1 = new Float32Array(hidden);
  const w2 = new Float32Array(hidden * labels);
  const b2 = new Float32Array(labels);
  for (const [member, { weights }] of networks.entries()) {
    for (let bucket = 0; bucket < HASH_BUCKETS; bucket++) {
      table.set(
        weights.table.subarray(bucket * hashDim, (bucket + 1) * hashDim),
        (bucket * members + member) * hashDim,
      );
    }
    for (let h = 0; h < sizes.hidden; h++) {
      const unit = member * sizes.hidden + h;
      let shift = weights.b1[h] ?? 0;
      for (let i = 0; i < pooled + hashDim; i++) {
        const weight = weights.w1[h * (pooled + hashDim) + i] ?? 0;
        const isPooled = i < pooled;
        const scaled = isPooled ? weight / (deviation[i] ?? 1) : weight;
        if (isPooled) shift -= scaled * (mean[i] ?? 0);
        w1[(isPooled ? i : pooled + member * hashDim + i - pooled) * hidden + unit] = scaled;
      }
      b1[unit] = shift;
      for (let l = 0; l < labels; l++) w2[unit * labels + l] = (weights.w2[l * sizes.hidden + h] ?? 0) / members;
    }
    for (let l = 0; l < labels; l++) b2[l] = (b2[l] ?? 0) + (weights.b2[l] ?? 0) / members;
  }
  return {
    tokens: embedding,
    hashes: { rows: HASH_BUCKETS, dim: members * hashDim, ...quantiseRows(table, HASH_BUCKETS, members * hashDim) },
    hidden,
    labels,
    w1,
    b1,
    w2,
    b2,
  };
}
