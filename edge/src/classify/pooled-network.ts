/**
 * The graph that `signpost-packer router train` writes, computed without ONNX Runtime: rows of two int8 tables are looked up and pooled, and a network of one hidden
 * layer tells the labels apart. A tenth of a millisecond where the runtime takes one, most of it between its operators; and nothing to start.
 */
import { type OnnxGraph, type OnnxTensor, readOnnx } from './onnx.ts';

/** Probabilities by label for the rows of both tables; the array is used again by the next call. */
export type PooledNetwork = (tokenIds: Int32Array, hashIds: Int32Array) => Float64Array; // (labels)

/** What the packer writes (packer/src/router/onnx.ts): operator, inputs → output. */
const NODES = [
  'Gather token_weight token_ids token_narrow',
  'Cast token_narrow token_wide',
  'Gather token_scale token_ids token_scales',
  'Mul token_wide token_scales token_rows',
  'Gather hash_weight hash_ids hash_narrow',
  'Cast hash_narrow hash_wide',
  'Gather hash_scale hash_ids hash_scales',
  'Mul hash_wide hash_scales hash_rows',
  'ReduceMean token_rows token_mean',
  'ReduceMax token_rows token_max',
  'ReduceMean hash_rows hash_mean',
  'Concat token_mean token_max hash_mean pooled',
  'MatMul pooled w1 product_1',
  'Add product_1 b1 sum_1',
  'Relu sum_1 hidden',
  'MatMul hidden w2 product_2',
  'Add product_2 b2 logits',
  'Softmax logits probabilities',
];
const FLOAT = 1;
const INT8 = 3;

/**
 * @param model bytes of an ONNX file.
 * @returns undefined for another graph, or one whose tensors' shapes don't fit together.
 * @throws Problem when the bytes are no ONNX file.
 */
export function readPooledNetwork(model: Uint8Array): PooledNetwork | undefined {
  const graph = readOnnx(model);
  const nodes = graph.nodes.map(({ operator, inputs, outputs }) => [operator, ...inputs, ...outputs].join(' '));
  if (nodes.length !== NODES.length || NODES.some((node, i) => node !== nodes[i])) return undefined;
  const [tokens, hashes] = [tableOf(graph, 'token'), tableOf(graph, 'hash')];
  const [b1, b2] = [floatsOf(graph.tensors.get('b1')), floatsOf(graph.tensors.get('b2'))];
  if (!tokens || !hashes || !b1 || !b2) return undefined;
  const w1 = transposed(graph.tensors.get('w1'), 2 * tokens.dim + hashes.dim, b1.length);
  const w2 = transposed(graph.tensors.get('w2'), b1.length, b2.length);
  return w1 && w2 && pooledNetwork(tokens, hashes, { w1, b1, w2, b2 });
}

interface Layers {
  readonly w1: Float64Array; // (hidden, inputs)
  readonly b1: Float64Array; // (hidden)
  readonly w2: Float64Array; // (labels, hidden)
  readonly b2: Float64Array; // (labels)
}

function pooledNetwork(tokens: Table, hashes: Table, { w1, b1, w2, b2 }: Layers): PooledNetwork {
  const pooled = new Float64Array(2 * tokens.dim + hashes.dim);
  const tokenMean = pooled.subarray(0, tokens.dim);
  const tokenMax = pooled.subarray(tokens.dim, 2 * tokens.dim);
  const hashMean = pooled.subarray(2 * tokens.dim);
  const hidden = new Float64Array(b1.length);
  const probabilities = new Float64Array(b2.length);
  return (tokenIds, hashIds) => {
    tokenMean.fill(0);
    tokenMax.fill(Number.NEGATIVE_INFINITY);
    hashMean.fill(0);
    addMeanAndMax(tokens, tokenIds, tokenMean, tokenMax);
    addMean(hashes, hashIds, hashMean);
    layer(pooled, w1, b1, hidden);
    for (let i = 0; i < hidden.length; i++) hidden[i] = Math.max(0, hidden[i] ?? 0);
    layer(hidden, w2, b2, probabilities);
    softmax(probabilities);
    return probabilities;
  };
}

/** Rows of int8 with a scale each, row 0 for whatever isn't there. */
interface Table {
  readonly rows: number;
  readonly dim: number;
  readonly weight: Int8Array; // (rows, dim)
  readonly scale: Float32Array; // (rows)
}

function addMeanAndMax({ dim, rows, weight, scale }: Table, ids: Int32Array, sum: Float64Array, max: Float64Array) {
  for (let n = 0; n < ids.length; n++) {
    const row = rowOf(ids[n], rows);
    const factor = scale[row] ?? 0;
    for (let i = 0, at = row * dim; i < dim; i++, at++) {
      const value = (weight[at] ?? 0) * factor;
      sum[i] = (sum[i] ?? 0) + value;
      if (value > (max[i] ?? 0)) max[i] = value;
    }
  }
  for (let i = 0; i < dim; i++) sum[i] = (sum[i] ?? 0) / ids.length;
}

function addMean({ dim, rows, weight, scale }: Table, ids: Int32Array, mean: Float64Array) {
  for (let n = 0; n < ids.length; n++) {
    const row = rowOf(ids[n], rows);
    const factor = (scale[row] ?? 0) / ids.length;
    for (let i = 0, at = row * dim; i < dim; i++, at++) mean[i] = (mean[i] ?? 0) + (weight[at] ?? 0) * factor;
  }
}

function rowOf(id = 0, rows: number): number {
  return id >= 0 && id < rows ? id : 0;
}

/** outputs = bias + weight · inputs, four rows at a time: each input is read once for them, and no sum waits for another. */
function layer(inputs: Float64Array, weight: Float64Array, bias: Float64Array, outputs: Float64Array): void {
  const width = inputs.length;
  for (let row = 0; row < outputs.length; row += 4) {
    let [sum0, sum1, sum2, sum3] = [0, 0, 0, 0];
    for (let j = 0, at = row * width; j < width; j++, at++) {
      const value = inputs[j] ?? 0;
      sum0 += value * (weight[at] ?? 0);
      sum1 += value * (weight[at + width] ?? 0);
      sum2 += value * (weight[at + 2 * width] ?? 0);
      sum3 += value * (weight[at + 3 * width] ?? 0);
    }
    // What is beyond the last row is not kept.
    outputs[row] = sum0 + (bias[row] ?? 0);
    outputs[row + 1] = sum1 + (bias[row + 1] ?? 0);
    outputs[row + 2] = sum2 + (bias[row + 2] ?? 0);
    outputs[row + 3] = sum3 + (bias[row + 3] ?? 0);
  }
}

function softmax(values: Float64Array): void {
  const most = Math.max(...values);
  let sum = 0;
  for (let i = 0; i < values.length; i++) {
    const value = Math.exp((values[i] ?? 0) - most);
    values[i] = value;
    sum += value;
  }
  for (let i = 0; i < values.length; i++) values[i] = (values[i] ?? 0) / sum;
}

function tableOf({ tensors }: OnnxGraph, name: string): Table | undefined {
  const weight = tensors.get(`${name}_weight`);
  const scale = tensors.get(`${name}_scale`);
  const [rows = 0, dim = 0] = weight?.dims ?? [];
  if (weight?.type !== INT8 || weight.raw.length !== rows * dim || rows === 0) return undefined;
  if (scale?.type !== FLOAT || scale.raw.length !== 4 * rows) return undefined;
  return {
    rows,
    dim,
    weight: new Int8Array(weight.raw.buffer, weight.raw.byteOffset, weight.raw.length),
    // Copied: a view of four-byte numbers must begin at a multiple of four.
    scale: new Float32Array(scale.raw.slice().buffer),
  };
}

/** As doubles, which spares widening them each time. */
function floatsOf(tensor: OnnxTensor | undefined): Float64Array | undefined {
  if (tensor?.type !== FLOAT || tensor.raw.length % 4 !== 0) return undefined;
  return Float64Array.from(new Float32Array(tensor.raw.slice().buffer));
}

/** (columns, rows) of a tensor (rows, columns); undefined for any other. */
function transposed(tensor: OnnxTensor | undefined, rows: number, columns: number): Float64Array | undefined {
  const values = floatsOf(tensor);
  if (values?.length !== rows * columns) return undefined;
  return Float64Array.from(values, (_, i) => values[(i % rows) * columns + Math.floor(i / rows)] ?? 0);
}
