/**
 * Reads of an ONNX file what tells its graph: operators with their inputs and outputs, and constant tensors, as views into its bytes.
 *
 * Source: onnx.proto3 (ModelProto.graph = 7; GraphProto.node = 1, initializer = 5; NodeProto.input = 1, output = 2, op_type = 4; TensorProto.dims = 1,
 * data_type = 2, name = 8, raw_data = 9) in protobuf's wire format.
 */
import { Problem } from '@signpost/contracts';

interface OnnxNode {
  readonly operator: string;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
}

export interface OnnxTensor {
  /** As onnx.proto3 numbers them: 1 is float32, 3 int8. */
  readonly type: number;
  readonly dims: readonly number[];
  /** Little-endian. */
  readonly raw: Uint8Array;
}

export interface OnnxGraph {
  readonly nodes: readonly OnnxNode[];
  readonly tensors: ReadonlyMap<string, OnnxTensor>;
}

/** @throws Problem when the bytes aren't a whole ONNX model. */
export function readOnnx(bytes: Uint8Array): OnnxGraph {
  const graphs = [...fieldsOf(bytes)].filter(({ field }) => field === 7);
  const [graph] = graphs;
  if (graph?.bytes === undefined) throw malformed('it has no graph');
  const nodes: OnnxNode[] = [];
  const tensors = new Map<string, OnnxTensor>();
  for (const { field, bytes: message } of fieldsOf(graph.bytes)) {
    if (message === undefined) continue;
    if (field === 1) nodes.push(readNode(message));
    if (field === 5) {
      const { name, ...tensor } = readTensor(message);
      tensors.set(name, tensor);
    }
  }
  return { nodes, tensors };
}

const decoder = new TextDecoder();

function readNode(message: Uint8Array): OnnxNode {
  const inputs: string[] = [];
  const outputs: string[] = [];
  let operator = '';
  for (const { field, bytes = EMPTY } of fieldsOf(message)) {
    if (field === 1) inputs.push(decoder.decode(bytes));
    if (field === 2) outputs.push(decoder.decode(bytes));
    if (field === 4) operator = decoder.decode(bytes);
  }
  return { operator, inputs, outputs };
}

function readTensor(message: Uint8Array): OnnxTensor & { readonly name: string } {
  const dims: number[] = [];
  let [type, name] = [0, ''];
  let raw = EMPTY;
  for (const { field, bytes, value } of fieldsOf(message)) {
    // Packed by some writers.
    if (field === 1) dims.push(...(bytes === undefined ? [value] : varintsOf(bytes)));
    if (field === 2) type = value;
    if (field === 8 && bytes !== undefined) name = decoder.decode(bytes);
    if (field === 9 && bytes !== undefined) raw = bytes;
  }
  return { name, type, dims, raw };
}

const EMPTY: Uint8Array = new Uint8Array();

export interface OnnxField {
  readonly field: number;
  /** Of a number. */
  readonly value: number;
  /** Of a string, a message, or packed numbers. */
  readonly bytes: Uint8Array | undefined;
  /** The field as it stands there. */
  readonly whole: Uint8Array;
}

/** The fields of a message in protobuf's wire format, as views into it. @throws Problem when it isn't whole. */
export function* fieldsOf(message: Uint8Array): Generator<OnnxField> {
  const at = { offset: 0 };
  while (at.offset < message.length) {
    const start = at.offset;
    const key = readVarint(message, at);
    const field = { field: Math.floor(key / 8), ...readValue(message, at, key % 8) };
    yield { ...field, whole: message.subarray(start, at.offset) };
  }
}

function readValue(message: Uint8Array, at: { offset: number }, type: number): Pick<OnnxField, 'value' | 'bytes'> {
  switch (type) {
    case 0:
      return { value: readVarint(message, at), bytes: undefined };
    case 1:
      return { value: 0, bytes: take(message, at, 8) };
    case 2:
      return { value: 0, bytes: take(message, at, readVarint(message, at)) };
    case 5:
      return { value: 0, bytes: take(message, at, 4) };
    default:
      throw malformed(`a field of it has the wire type ${type}`);
  }
}

function varintsOf(bytes: Uint8Array): number[] {
  const values: number[] = [];
  for (const at = { offset: 0 }; at.offset < bytes.length; ) values.push(readVarint(bytes, at));
  return values;
}

function take(message: Uint8Array, at: { offset: number }, length: number): Uint8Array {
  if (at.offset + length > message.length) throw malformed('it ends in the middle of a field');
  const bytes = message.subarray(at.offset, at.offset + length);
  at.offset += length;
  return bytes;
}

function readVarint(message: Uint8Array, at: { offset: number }): number {
  let value = 0;
  for (let shift = 0; shift < 70; shift += 7) {
    const byte = message[at.offset++];
    if (byte === undefined) throw malformed('it ends in the middle of a number');
    value += (byte & 127) * 2 ** shift;
    if (byte < 128) return value;
  }
  throw malformed('a number in it is longer than ten bytes');
}

function malformed(what: string): Problem {
  return new Problem(`the router model is no ONNX file: ${what}`);
}
