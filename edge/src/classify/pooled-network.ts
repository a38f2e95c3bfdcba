/**
 * The graph that `signpost-packer router train` writes, computed without ONNX Runtime: rows of two int8 tables are looked up and pooled, and a network of one hidden
 * layer tells the labels apart. Some ten microseconds where the runtime takes hundreds, most of them between its operators; and nothing to start. The sums are
 * `pooled-network.wat`'s.
 */
import { type OnnxGraph, type OnnxTensor, readOnnx } from './onnx.ts';

/** Probabilities by label for at most `MAX_IDS` rows of each table; the array is used again by the next call. */
export type PooledNetwork = (tokenIds: Int32Array, hashIds: Int32Array) => Float32Array; // (labels)

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

/** More than the features of any prompt. */
const MAX_IDS = 512;
/** Columns are filled up with zeros to a multiple of these. */
const BLOCK = 16;
const PAGE_BYTES = 65_536;

/**
 * @param model bytes of an ONNX file.
 * @param instantiate a new instance of `pooled-network.wasm`.
 * @returns undefined for another graph, or one whose tensors' shapes don't fit together.
 * @throws Problem when the bytes are no ONNX file.
 */
export function readPooledNetwork(model: Uint8Array, instantiate: () => PoolingKernel): PooledNetwork | undefined {
  const graph = readOnnx(model);
  const nodes = graph.nodes.map(({ operator, inputs, outputs }) => [operator, ...inputs, ...outputs].join(' '));
  if (nodes.length !== NODES.length || NODES.some((node, i) => node !== nodes[i])) return undefined;
  const [tokens, hashes] = [tableOf(graph, 'token'), tableOf(graph, 'hash')];
  const [b1, b2] = [floatsOf(graph.tensors.get('b1')), floatsOf(graph.tensors.get('b2'))];
  const [w1, w2] = [floatsOf(graph.tensors.get('w1')), floatsOf(graph.tensors.get('w2'))];
  if (!tokens || !hashes || !b1 || !b2 || !w1 || !w2) return undefined;
  const inputs = 2 * tokens.dim + hashes.dim;
  if (w1.length !== inputs * b1.length || w2.length !== b1.length * b2.length) return undefined;
  return place(tokens, hashes, { w1, b1, w2, b2 }, instantiate());
}

interface Layers {
  readonly w1: Float32Array; // (inputs, hidden)
  readonly b1: Float32Array; // (hidden)
  readonly w2: Float32Array; // (hidden, labels)
  readonly b2: Float32Array; // (labels)
}

/** What `pooled-network.wasm` exports. */
export interface PoolingKernel {
  readonly memory: { readonly buffer: ArrayBuffer; grow(pages: number): number };
  pool(ids: number, count: number, columns: number, weight: number, scale: number, sum: number, max: number): void;
  layer(
    inputs: number,
    columns: number,
    weight: number,
    bias: number,
    outputs: number,
    rows: number,
    least: number,
  ): void;
}

/** Puts everything where the kernel has it at hand. */
function place(tokens: Table, hashes: Table, { w1, b1, w2, b2 }: Layers, kernel: PoolingKernel): PooledNetwork {
  const [tokenColumns, hashColumns, hiddenColumns] = [padded(tokens.dim), padded(hashes.dim), padded(b1.length)];
  const columns = 2 * tokenColumns + hashColumns;
  let end = 0;
  const room = (bytes: number): number => {
    const at = end;
    end += Math.ceil(bytes / BLOCK) * BLOCK;
    return at;
  };
  const at = {
    tokenWeight: room(tokens.rows * tokenColumns),
    tokenScale: room(4 * tokens.rows),
    hashWeight: room(hashes.rows * hashColumns),
    hashScale: room(4 * hashes.rows),
    w1: room(4 * b1.length * columns),
    b1: room(4 * b1.length),
    w2: room(4 * b2.length * hiddenColumns),
    b2: room(4 * b2.length),
    ids: room(4 * MAX_IDS),
    // Sums and maxima of tokens, sums of hashes: what the first layer takes. Maxima of hashes, which it doesn't, come behind.
    pooled: room(4 * (columns + hashColumns)),
    hidden: room(4 * hiddenColumns),
    logits: room(4 * b2.length),
  };
  kernel.memory.grow(Math.ceil(end / PAGE_BYTES));
  const { buffer } = kernel.memory;
  const floats = (offset: number, length: number) => new Float32Array(buffer, offset, length);
  fillTable(tokens, new Int8Array(buffer, at.tokenWeight), floats(at.tokenScale, tokens.rows), tokenColumns);
  fillTable(hashes, new Int8Array(buffer, at.hashWeight), floats(at.hashScale, hashes.rows), hashColumns);
  // Where each input of the graph stands among the filled up ones.
  const columnOf = (input: number) => {
    if (input < tokens.dim) return input;
    return input < 2 * tokens.dim ? tokenColumns + input - tokens.dim : 2 * (tokenColumns - tokens.dim) + input;
  };
  fillTransposed(w1, floats(at.w1, b1.length * columns), b1.length, columns, columnOf);
  fillTransposed(w2, floats(at.w2, b2.length * hiddenColumns), b2.length, hiddenColumns, (input) => input);
  floats(at.b1, b1.length).set(b1);
  floats(at.b2, b2.length).set(b2);

  const ids = new Int32Array(buffer, at.ids, MAX_IDS);
  const pooled = floats(at.pooled, columns + hashColumns);
  const probabilities = floats(at.logits, b2.length);
  const hashStart = 2 * tokenColumns;
  return (tokenIds, hashIds) => {
    const tokenCount = copyIds(tokenIds, ids, tokens.rows);
    kernel.pool(
      at.ids,
      tokenCount,
      tokenColumns,
      at.tokenWeight,
      at.tokenScale,
      at.pooled,
      at.pooled + 4 * tokenColumns,
    );
    const hashCount = copyIds(hashIds, ids, hashes.rows);
    const hashSum = at.pooled + 4 * hashStart;
    kernel.pool(at.ids, hashCount, hashColumns, at.hashWeight, at.hashScale, hashSum, hashSum + 4 * hashColumns);
    for (let i = 0; i < tokenColumns; i++) pooled[i] = (pooled[i] ?? 0) / tokenCount;
    for (let i = hashStart; i < columns; i++) pooled[i] = (pooled[i] ?? 0) / hashCount;
    kernel.layer(at.pooled, columns, at.w1, at.b1, at.hidden, b1.length, 0);
    kernel.layer(at.hidden, hiddenColumns, at.w2, at.b2, at.logits, b2.length, Number.NEGATIVE_INFINITY);
    softmax(probabilities);
    return probabilities;
  };
}

const padded = (columns: number) => Math.ceil(columns / BLOCK) * BLOCK;

/** Ids that no row has stand for row 0: the kernel reads what it is told. @returns how many there are, one at least. */
function copyIds(from: Int32Array, to: Int32Array, rows: number): number {
  const count = Math.min(from.length, MAX_IDS);
  for (let i = 0; i < count; i++) {
    const id = from[i] ?? 0;
    to[i] = id >= 0 && id < rows ? id : 0;
  }
  if (count === 0) to[0] = 0;
  return Math.max(1, count);
}

function fillTable({ rows, dim, weight, scale }: Table, to: Int8Array, scales: Float32Array, columns: number): void {
  for (let row = 0; row < rows; row++) to.set(weight.subarray(row * dim, (row + 1) * dim), row * columns);
  scales.set(scale);
}

/** @param from (inputs, rows) @param to (rows, columns) */
function fillTransposed(
  from: Float32Array,
  to: Float32Array,
  rows: number,
  columns: number,
  columnOf: (input: number) => number,
): void {
  for (let i = 0; i < from.length; i++) to[(i % rows) * columns + columnOf(Math.floor(i / rows))] = from[i] ?? 0;
}

/** Rows of int8 with a scale each. */
interface Table {
  readonly rows: number;
  readonly dim: number;
  readonly weight: Int8Array; // (rows, dim)
  readonly scale: Float32Array; // (rows)
}

function softmax(values: Float32Array): void {
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

function floatsOf(tensor: OnnxTensor | undefined): Float32Array | undefined {
  if (tensor?.type !== FLOAT || tensor.raw.length % 4 !== 0) return undefined;
  return new Float32Array(tensor.raw.slice().buffer);
}
