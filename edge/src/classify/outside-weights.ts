/**
 * An ONNX file's graph without its large tensors, which stay where they are in the file: ONNX Runtime then reads them from there, one at a time. Given the whole
 * file it holds it three times over while it starts (the bytes, what they are parsed to, and the tensors), and WebAssembly's memory never shrinks.
 *
 * Source: onnx.proto3's external data (TensorProto.external_data = 13, of key = 1 and value = 2; data_location = 14, EXTERNAL = 1).
 */
import { fieldsOf, type OnnxField } from './onnx.ts';

/** What the file is called in its graph. */
export const WEIGHTS_NAME = 'weights';

/** Smaller ones may be shapes, which the runtime wants to see at once. */
const MIN_BYTES = 1_024;

const MODEL_GRAPH = 7;
const GRAPH_INITIALIZER = 5;
const TENSOR_RAW_DATA = 9;
const TENSOR_EXTERNAL_DATA = 13;
const TENSOR_DATA_LOCATION = 14;
const EXTERNAL = 1;

/**
 * @param model bytes of an ONNX file.
 * @returns those of one whose tensors are in the file `WEIGHTS_NAME`, which is `model`.
 * @throws Problem when the bytes aren't a whole ONNX model.
 */
export function withoutWeights(model: Uint8Array): Uint8Array {
  return rewritten(model, MODEL_GRAPH, (graph) =>
    rewritten(graph, GRAPH_INITIALIZER, (tensor) => pointing(tensor, model)),
  );
}

/** A message, with what `change` makes of the messages in this field of it. */
function rewritten(message: Uint8Array, number: number, change: (part: Uint8Array) => Uint8Array): Uint8Array {
  return concatenated(
    [...fieldsOf(message)].map(({ field, bytes, whole }) =>
      field === number && bytes !== undefined ? encoded(field, change(bytes)) : whole,
    ),
  );
}

/** A tensor whose data are where they are in `model`. */
function pointing(tensor: Uint8Array, model: Uint8Array): Uint8Array {
  const fields = [...fieldsOf(tensor)];
  const isData = ({ field }: OnnxField) => field === TENSOR_RAW_DATA;
  const raw = fields.find(isData)?.bytes;
  if (raw === undefined || raw.length < MIN_BYTES) return tensor;
  return concatenated([
    ...fields.filter((field) => !isData(field)).map(({ whole }) => whole),
    entry('location', WEIGHTS_NAME),
    entry('offset', String(raw.byteOffset - model.byteOffset)),
    entry('length', String(raw.length)),
    Uint8Array.of(TENSOR_DATA_LOCATION * 8, EXTERNAL),
  ]);
}

const encoder = new TextEncoder();

function entry(key: string, value: string): Uint8Array {
  return encoded(
    TENSOR_EXTERNAL_DATA,
    concatenated([encoded(1, encoder.encode(key)), encoded(2, encoder.encode(value))]),
  );
}

function encoded(field: number, bytes: Uint8Array): Uint8Array {
  return concatenated([varint(field * 8 + 2), varint(bytes.length), bytes]);
}

function varint(value: number): Uint8Array {
  const bytes: number[] = [];
  let rest = value;
  for (; rest >= 128; rest = Math.floor(rest / 128)) bytes.push((rest % 128) | 128);
  return Uint8Array.from([...bytes, rest]);
}

function concatenated(parts: readonly Uint8Array[]): Uint8Array {
  const all = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}
