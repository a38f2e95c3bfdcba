/**
 * A Hugging Face checkpoint on disk: `config.json` and safetensors, in one file or in shards with an index. Memory-mapped: opening
 * reads headers only.
 */
import { createHash } from 'node:crypto';
import { closeSync, existsSync, fstatSync, openSync, readSync } from 'node:fs';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import {
  baseDigest,
  type Digest,
  headerLength,
  Problem,
  parseHeader,
  parseWith,
  type SafetensorsHeader,
  sha256,
  type TensorInfo,
} from '@signpost/contracts';
import { MAP_GRANULE, mapFile, releaseMapped } from '@signpost/kernels';
import { z } from 'zod';
import type { ParamDtype, ParamSource, ParamSpec } from '../device/device.ts';
import { readJson } from '../read-json.ts';
import { hashedAhead, THREAD_BYTES } from './ahead.ts';
import { type ModelConfig, parseModelConfig } from './config.ts';

const SINGLE_FILE = 'model.safetensors';
const INDEX_FILE = 'model.safetensors.index.json';
const indexSchema = z.looseObject({
  weight_map: z.record(z.string(), z.string().regex(/^[\w.-]+\.safetensors$/, 'expected a file name')),
});

/** A tensor with its bytes: mapped from the file when they are first asked for, or of a tensor that is computed, computed anew at each access. */
export interface CheckpointTensor {
  readonly info: TensorInfo;
  /** The file that is mapped; undefined for a tensor that is computed. */
  readonly path?: string;
  readonly data: Uint8Array;
  /** The same bytes piece by piece, where they are computed: they need never be held at once. */
  pieces?(): Iterable<Uint8Array>;
}

/** What decides a checkpoint's bytes. */
export interface CheckpointOrigin {
  /** Folders and files that they are read from. */
  readonly paths: readonly string[];
  /** How they are computed from those, as text; empty where they are what is read. */
  readonly method: string;
}

export class Checkpoint {
  readonly dir: string;
  readonly config: ModelConfig;
  /** By name, in file order. */
  readonly tensors: ReadonlyMap<string, CheckpointTensor>;
  readonly origin: CheckpointOrigin;
  readonly #elsewhere: Promise<Digest | undefined> | undefined;
  #digest: Promise<Digest> | undefined;

  constructor(
    dir: string,
    config: ModelConfig,
    tensors: ReadonlyMap<string, CheckpointTensor>,
    origin: CheckpointOrigin = { paths: [dir], method: '' },
    digest?: Promise<Digest | undefined>,
  ) {
    this.#elsewhere = digest;
    this.dir = dir;
    this.origin = origin;
    this.config = config;
    this.tensors = tensors;
  }

  /** The base digest; reads every byte the first time. */
  digest(): Promise<Digest> {
    this.#digest ??= Promise.resolve(this.#elsewhere).then((known) => known ?? digestOf(this.tensors));
    return this.#digest;
  }

  /** One parameter's dtype and bytes, and where those stand in a file, if they do. @throws Problem when it is missing, or its shape or dtype is not what the config needs. */
  param(spec: ParamSpec): {
    readonly dtype: ParamDtype;
    readonly data: Uint8Array;
    readonly source: ParamSource | undefined;
  } {
    const tensor = this.tensors.get(spec.name);
    if (tensor === undefined) throw new Problem(`${this.dir}: tensor ${spec.name} is missing`);
    const { dtype, shape } = tensor.info;
    if (shape.length !== spec.shape.length || !shape.every((dim, i) => dim === spec.shape[i])) {
      throw new Problem(`${this.dir}: tensor ${spec.name} is [${shape}], config.json needs [${spec.shape}]`);
    }
    if (dtype !== 'BF16' && dtype !== 'F16' && dtype !== 'F32') {
      throw new Problem(`${this.dir}: tensor ${spec.name} is ${dtype}; supported: BF16, F16, F32`);
    }
    const { path, info } = tensor;
    // Whoever only checks doesn't pay for a tensor that is computed.
    return {
      dtype,
      source: path === undefined ? undefined : { path, offset: info.offset },
      get data() {
        return tensor.data;
      },
    };
  }

  /** Lets go of the memory behind one parameter's mapped bytes; whoever reads them again gets them from the file. */
  release({ name }: ParamSpec): void {
    const tensor = this.tensors.get(name);
    if (tensor?.path !== undefined) releaseMapped(tensor.data);
  }
}

/**
 * Opens a checkpoint folder.
 *
 * @param digest the base's, if somebody else reads every byte of it already; undefined where nobody did.
 * @throws Problem when a file is missing, truncated or malformed, or the model family is not supported.
 */
export async function openCheckpoint(dir: string, digest?: Promise<Digest | undefined>): Promise<Checkpoint> {
  const config = parseModelConfig(await readJson(join(dir, 'config.json')), join(dir, 'config.json'));
  const tensors = new Map<string, CheckpointTensor>();
  for (const file of await shardFiles(dir)) {
    const path = join(dir, file);
    for (const tensor of mapTensors(path)) {
      const { name } = tensor.info;
      if (tensors.has(name)) throw new Problem(`${path}: tensor ${name} stands in another shard too`);
      tensors.set(name, tensor);
    }
  }
  return new Checkpoint(dir, config, tensors, undefined, digest);
}

/**
 * The tensors of a safetensors file, in file order, each mapped by itself: a file may be larger than any one buffer. And only when its bytes are asked for: the
 * garbage collector takes what is mapped for memory that is used, and runs for it.
 *
 * @throws Problem when it is truncated or malformed.
 */
export function mapTensors(path: string): CheckpointTensor[] {
  return readHeader(path).tensors.map((info) => {
    let data: Uint8Array | undefined;
    return {
      info,
      path,
      get data() {
        data ??= mapTensor(path, info);
        return data;
      },
    };
  });
}

function mapTensor(path: string, { offset, bytes }: TensorInfo): Uint8Array {
  if (bytes === 0) return new Uint8Array();
  const start = Math.floor(offset / MAP_GRANULE) * MAP_GRANULE;
  return new Uint8Array(mapFile(path, start, offset + bytes - start), offset - start, bytes);
}

/** The header of a safetensors file. @throws Problem when it is truncated or malformed. */
export function readHeader(path: string): SafetensorsHeader {
  const file = openSync(path, 'r');
  try {
    const { size } = fstatSync(file);
    const first = readBytes(file, 0, Math.min(8, size));
    return parseHeader(readBytes(file, 8, headerLength(first, size, path)), size, path);
  } finally {
    closeSync(file);
  }
}

function readBytes(file: number, position: number, length: number): Uint8Array {
  const data = new Uint8Array(length);
  for (let done = 0; done < length; ) {
    const read = readSync(file, data, done, length - done, position + done);
    if (read === 0) throw new Problem('the file was cut short while it was read');
    done += read;
  }
  return data;
}

async function shardFiles(dir: string): Promise<string[]> {
  if (existsSync(join(dir, SINGLE_FILE))) return [SINGLE_FILE];
  const indexPath = join(dir, INDEX_FILE);
  if (!existsSync(indexPath))
    throw new Problem(
      `${dir} holds neither ${SINGLE_FILE} nor ${INDEX_FILE}; is it a Hugging Face checkpoint in safetensors?`,
    );
  const { weight_map } = parseWith(indexSchema, await readJson(indexPath), indexPath);
  return [...new Set(Object.values(weight_map))].sort();
}

async function digestOf(tensors: ReadonlyMap<string, CheckpointTensor>): Promise<Digest> {
  const list = [...tensors.values()];
  const digests = await tensorDigests(list);
  return baseDigest(
    list.map(({ info: { name, dtype, shape } }, i) => ({ name, dtype, shape, digest: digests[i] ?? ('' as Digest) })),
  );
}

async function tensorDigests(tensors: readonly CheckpointTensor[]): Promise<Digest[]> {
  const total = tensors.reduce((sum, { info }) => sum + info.bytes, 0);
  const parts = tensors.flatMap(({ path, info: { offset, bytes } }) =>
    path === undefined ? [] : [{ path, offset, bytes }],
  );
  if (total >= THREAD_BYTES && parts.length === tensors.length) return (await hashedAhead(parts)) as Digest[];
  const digests: Digest[] = [];
  for (const tensor of tensors)
    digests.push(tensor.pieces === undefined ? await sha256(tensor.data) : await digestOfPieces(tensor.pieces()));
  return digests;
}

async function digestOfPieces(pieces: Iterable<Uint8Array>): Promise<Digest> {
  const hash = createHash('sha256');
  for (const piece of pieces) hash.update(piece);
  // Computing them took this thread: whatever else waits for it comes next.
  await setImmediate();
  return hash.digest('hex') as Digest;
}
