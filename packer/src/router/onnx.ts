/**
 * The router as an ONNX graph.
 *
 * Both tables stay int8 with a scale by row and are widened after the look-up, so the file is little larger than the tables. Written by hand in
 * protobuf's wire format: a dozen messages of onnx.proto3 (IR version 8, operator set 13) don't warrant a generated library.
 */

/** Tensor element types of onnx.proto3. */
const FLOAT = 1;
const INT8 = 3;
const INT32 = 6;

const IR_VERSION = 8;
const OPSET = 13;

const text = new TextEncoder();

/** Bytes of one protobuf message, field by field. */
class Message {
  readonly #parts: Uint8Array[] = [];

  varint(field: number, value: number): this {
    this.#parts.push(varint(field << 3), varint(value));
    return this;
  }

  bytes(field: number, value: Uint8Array | string | Message): this {
    const data = typeof value === 'string' ? text.encode(value) : value instanceof Message ? value.finish() : value;
    this.#parts.push(varint((field << 3) | 2), varint(data.byteLength), data);
    return this;
  }

  finish(): Uint8Array {
    return new Uint8Array(Buffer.concat(this.#parts));
  }
}

function varint(value: number): Uint8Array {
  const bytes: number[] = [];
  let left = value;
  while (left > 127) {
    bytes.push((left % 128) | 128);
    left = Math.floor(left / 128);
  }
  return Uint8Array.from([...bytes, left]);
}

type Attribute =
  | { readonly name: string; readonly ints: readonly number[] }
  | { readonly name: string; readonly int: number };

function node(
  operator: string,
  inputs: readonly string[],
  output: string,
  attributes: readonly Attribute[] = [],
): Message {
  const message = new Message();
  for (const input of inputs) message.bytes(1, input);
  message.bytes(2, output).bytes(3, output).bytes(4, operator);
  for (const attribute of attributes) {
    const one = new Message().bytes(1, attribute.name);
    if ('int' in attribute) one.varint(3, attribute.int).varint(20, 2);
    else {
      for (const value of attribute.ints) one.varint(8, value);
      one.varint(20, 7);
    }
    message.bytes(5, one);
  }
  return message;
}

function tensor(name: string, type: number, dims: readonly number[], data: Int8Array | Float32Array): Message {
  const message = new Message();
  for (const dim of dims) message.varint(1, dim);
  return message
    .varint(2, type)
    .bytes(8, name)
    .bytes(9, new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
}

/** A graph input or output with one dimension, fixed or named. */
function value(name: string, type: number, dim: number | string): Message {
  const dimension = typeof dim === 'number' ? new Message().varint(1, dim) : new Message().bytes(2, dim);
  const tensorType = new Message().varint(1, type).bytes(2, new Message().bytes(1, dimension));
  return new Message().bytes(1, name).bytes(2, new Message().bytes(1, tensorType));
}

/** An int8 table (rows, dim) with one scale a row. */
export interface QuantisedTable {
  readonly rows: number;
  readonly dim: number;
  readonly weight: Int8Array; // (rows, dim)
  readonly scale: Float32Array; // (rows)
}

export interface RouterGraph {
  readonly tokens: QuantisedTable;
  readonly hashes: QuantisedTable;
  readonly hidden: number;
  readonly labels: number;
  /** By input (mean tokens, max tokens, mean hashes), then hidden unit: (inputs, hidden). */
  readonly w1: Float32Array;
  readonly b1: Float32Array; // (hidden)
  readonly w2: Float32Array; // (hidden, labels)
  readonly b2: Float32Array; // (labels)
}

/** Bytes of the ONNX file: `token_ids`, `hash_ids` (int32) → `probabilities` (float32). */
export function encodeRouter(router: RouterGraph): Uint8Array {
  const { tokens, hashes, hidden, labels } = router;
  const inputs = 2 * tokens.dim + hashes.dim;
  const overRows: Attribute[] = [
    { name: 'axes', ints: [0] },
    { name: 'keepdims', int: 0 },
  ];
  const graph = new Message();
  for (const one of [
    ...lookUp('token', 'token_ids'),
    ...lookUp('hash', 'hash_ids'),
    node('ReduceMean', ['token_rows'], 'token_mean', overRows),
    node('ReduceMax', ['token_rows'], 'token_max', overRows),
    node('ReduceMean', ['hash_rows'], 'hash_mean', overRows),
    node('Concat', ['token_mean', 'token_max', 'hash_mean'], 'pooled', [{ name: 'axis', int: 0 }]),
    node('MatMul', ['pooled', 'w1'], 'product_1'),
    node('Add', ['product_1', 'b1'], 'sum_1'),
    node('Relu', ['sum_1'], 'hidden'),
    node('MatMul', ['hidden', 'w2'], 'product_2'),
    node('Add', ['product_2', 'b2'], 'logits'),
    node('Softmax', ['logits'], 'probabilities', [{ name: 'axis', int: 0 }]),
  ]) {
    graph.bytes(1, one);
  }
  graph.bytes(2, 'signpost-router');
  for (const one of [
    ...[['token', tokens] as const, ['hash', hashes] as const].flatMap(([name, table]) => [
      tensor(`${name}_weight`, INT8, [table.rows, table.dim], table.weight),
      tensor(`${name}_scale`, FLOAT, [table.rows, 1], table.scale),
    ]),
    tensor('w1', FLOAT, [inputs, hidden], router.w1),
    tensor('b1', FLOAT, [hidden], router.b1),
    tensor('w2', FLOAT, [hidden, labels], router.w2),
    tensor('b2', FLOAT, [labels], router.b2),
  ]) {
    graph.bytes(5, one);
  }
  graph.bytes(11, value('token_ids', INT32, 'tokens')).bytes(11, value('hash_ids', INT32, 'hashes'));
  graph.bytes(12, value('probabilities', FLOAT, labels));
  return new Message()
    .varint(1, IR_VERSION)
    .bytes(2, 'signpost-packer')
    .bytes(7, graph)
    .bytes(8, new Message().bytes(1, '').varint(2, OPSET))
    .finish();
}

/** Rows of a table, widened and scaled: (n, dim). */
function lookUp(name: string, ids: string): Message[] {
  return [
    node('Gather', [`${name}_weight`, ids], `${name}_narrow`),
    node('Cast', [`${name}_narrow`], `${name}_wide`, [{ name: 'to', int: FLOAT }]),
    node('Gather', [`${name}_scale`, ids], `${name}_scales`),
    node('Mul', [`${name}_wide`, `${name}_scales`], `${name}_rows`),
  ];
}
