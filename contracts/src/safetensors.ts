/**
 * The safetensors container: an 8-byte little-endian header length, a JSON header, then tensor bytes.
 *
 * Every offset, shape and size is checked before anything is read or allocated by it. Knows nothing of files: it turns header
 * bytes into a directory and back. Source: the format section of huggingface/safetensors.
 */
import { z } from 'zod';
import { Problem, parseWith } from './problem.ts';

/** Bytes of one element, by dtype name. */
const ELEMENT_BYTES = {
  BOOL: 1,
  U8: 1,
  I8: 1,
  F8_E4M3: 1,
  F8_E5M2: 1,
  U16: 2,
  I16: 2,
  F16: 2,
  BF16: 2,
  U32: 4,
  I32: 4,
  F32: 4,
  U64: 8,
  I64: 8,
  F64: 8,
} as const;

export type Dtype = keyof typeof ELEMENT_BYTES;

/** The format's own bound on the header: a longer one is refused before it is read. */
export const MAX_HEADER_BYTES = 100_000_000;

export interface TensorInfo {
  readonly name: string;
  readonly dtype: Dtype;
  readonly shape: readonly number[];
  /** First byte, counted from the start of the file. */
  readonly offset: number;
  readonly bytes: number;
}

export interface SafetensorsHeader {
  readonly metadata: Readonly<Record<string, string>>;
  /** In file order, which for delta files is execution order. */
  readonly tensors: readonly TensorInfo[];
  /** Bytes of length field and header together: where tensor data begins. */
  readonly headerBytes: number;
  /** Bytes of the whole file. */
  readonly fileBytes: number;
}

const entrySchema = z.object({
  dtype: z.string(),
  shape: z.array(z.number().int().nonnegative()),
  data_offsets: z.tuple([z.number().int().nonnegative(), z.number().int().nonnegative()]),
});
const metadataSchema = z.record(z.string(), z.string());

export function elementBytes(dtype: Dtype): number {
  return ELEMENT_BYTES[dtype];
}

export function elementCount(shape: readonly number[]): number {
  return shape.reduce((product, dim) => product * dim, 1);
}

/**
 * Header length in bytes, from the first 8 bytes of a file of `fileBytes`.
 *
 * @throws Problem when the file is too short for its header, or the length is beyond the format's bound.
 */
export function headerLength(first: Uint8Array, fileBytes: number, where: string): number {
  if (first.byteLength < 8 || fileBytes < 8)
    throw new Problem(`${where}: ${fileBytes} bytes is too short for a safetensors file`);
  const length = new DataView(first.buffer, first.byteOffset, 8).getBigUint64(0, true);
  if (length > BigInt(MAX_HEADER_BYTES))
    throw new Problem(
      `${where}: header length ${length} is beyond the format's ${MAX_HEADER_BYTES}; not a safetensors file?`,
    );
  if (8 + Number(length) > fileBytes)
    throw new Problem(
      `${where}: truncated, the header needs ${8 + Number(length)} bytes and the file has ${fileBytes}`,
    );
  return Number(length);
}

/**
 * Parses a header's JSON (without the length field) for a file of `fileBytes`.
 *
 * @throws Problem when the JSON, a dtype, a shape or an offset is wrong, tensors overlap or leave gaps, or the data is truncated.
 */
export function parseHeader(json: Uint8Array, fileBytes: number, where: string): SafetensorsHeader {
  let raw: unknown;
  try {
    raw = JSON.parse(new TextDecoder('utf-8', { fatal: true, ignoreBOM: false }).decode(json));
  } catch (cause) {
    throw new Problem(`${where}: the header is not JSON`, { cause });
  }
  const { __metadata__: metadata = {}, ...entries } = parseWith(z.record(z.string(), z.unknown()), raw, where);
  const dataStart = 8 + json.byteLength;
  const tensors = Object.entries(entries).map(([name, entry]) => {
    const {
      dtype,
      shape,
      data_offsets: [begin, end],
    } = parseWith(entrySchema, entry, `${where}: tensor ${name}`);
    if (!Object.hasOwn(ELEMENT_BYTES, dtype)) throw new Problem(`${where}: tensor ${name} has unknown dtype ${dtype}`);
    const bytes = elementCount(shape) * elementBytes(dtype as Dtype);
    if (!Number.isSafeInteger(bytes) || end - begin !== bytes) {
      throw new Problem(
        `${where}: tensor ${name} ${dtype} [${shape}] needs ${bytes} bytes, its offsets span ${end - begin}`,
      );
    }
    return { name, dtype: dtype as Dtype, shape, offset: dataStart + begin, bytes };
  });
  tensors.sort((a, b) => a.offset - b.offset || a.bytes - b.bytes);
  let next = dataStart;
  for (const tensor of tensors) {
    if (tensor.offset !== next)
      throw new Problem(
        `${where}: tensor ${tensor.name} begins at byte ${tensor.offset}, expected ${next} (overlap or gap)`,
      );
    next += tensor.bytes;
  }
  if (next !== fileBytes) {
    throw new Problem(
      `${where}: ${next > fileBytes ? 'truncated' : 'trailing bytes'}, tensors end at byte ${next} and the file has ${fileBytes}`,
    );
  }
  return {
    metadata: parseWith(metadataSchema, metadata, `${where}: __metadata__`),
    tensors,
    headerBytes: dataStart,
    fileBytes,
  };
}

/** Parses a whole file held in memory. Tensor bytes are then `bytes.subarray(offset, offset + bytes)`. */
export function parseSafetensors(bytes: Uint8Array, where: string): SafetensorsHeader {
  const length = headerLength(bytes, bytes.byteLength, where);
  return parseHeader(bytes.subarray(8, 8 + length), bytes.byteLength, where);
}

export interface TensorSpec {
  readonly name: string;
  readonly dtype: Dtype;
  readonly shape: readonly number[];
}

/**
 * Encodes length field and header for tensors that will be written one after another in the given order. The header is padded with
 * spaces so that data begins at a multiple of 64 bytes (aligned for any element type and for SIMD loads from a mapped file).
 */
export function encodeHeader(tensors: readonly TensorSpec[], metadata: Readonly<Record<string, string>>): Uint8Array {
  const entries: Record<string, unknown> = Object.keys(metadata).length > 0 ? { __metadata__: metadata } : {};
  let offset = 0;
  for (const { name, dtype, shape } of tensors) {
    if (Object.hasOwn(entries, name) || name === '__metadata__') throw new Problem(`tensor name ${name} is taken`);
    const end = offset + elementCount(shape) * elementBytes(dtype);
    entries[name] = { dtype, shape, data_offsets: [offset, end] };
    offset = end;
  }
  const json = new TextEncoder().encode(JSON.stringify(entries));
  const headerBytes = Math.ceil((8 + json.byteLength) / 64) * 64;
  const out = new Uint8Array(headerBytes).fill(0x20);
  new DataView(out.buffer).setBigUint64(0, BigInt(headerBytes - 8), true);
  out.set(json, 8);
  return out;
}
