/**
 * Writing a checkpoint folder as Hugging Face publishes them, so that transformers, vLLM and this engine load it.
 *
 * The folder grows under a temporary name and gets its own only when every file in it is whole and synced.
 */
import { randomUUID } from 'node:crypto';
import { existsSync, readdirSync } from 'node:fs';
import { type FileHandle, mkdir, open, rename, rm, rmdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import {
  elementBytes,
  elementCount,
  encodeHeader,
  Problem,
  type TensorSpec,
  type TokenizerChanges,
} from '@signpost/contracts';
import { type Checkpoint, modelParams, type ParamDtype, type ParamSpec } from '@signpost/engine';
import { syncFolder } from '@signpost/store/files';
import { encodeFloats, type RowReader, rowBlocks } from '../source/floats.ts';
import { companionFiles } from './companions.ts';
import { paramRows } from './input.ts';

const DTYPE_NAMES = { F32: 'float32', F16: 'float16', BF16: 'bfloat16' } as const;

export interface WriteOptions {
  /** Folder to write; it must not be there yet, or be empty. */
  readonly out: string;
  readonly dtypeOf: (spec: ParamSpec) => ParamDtype;
  readonly maxShardBytes: number;
  /** How the model's tokenizer differs from that of the checkpoint's folder. */
  readonly tokenizer?: TokenizerChanges | undefined;
  /** More files to put into it, by name. */
  readonly notes?: Readonly<Record<string, string>>;
  /** Called after each block with the bytes of weights written so far. */
  readonly onProgress?: (writtenBytes: number, totalBytes: number) => void;
  /** Stops the run; nothing is left behind. */
  readonly signal?: AbortSignal;
}

export interface WriteReport {
  readonly out: string;
  /** Bytes of weights. */
  readonly bytes: number;
  readonly shards: number;
}

interface PlannedTensor extends TensorSpec {
  readonly dtype: ParamDtype;
  readonly bytes: number;
  readonly rows: RowReader;
}

/**
 * Writes `checkpoint`, a block of rows at a time, with the config and tokenizer files of its folder and what its own tokenizer changes.
 *
 * @throws Problem when the folder is in use, or a value is not finite in the dtype it is written in.
 */
export async function writeCheckpoint(checkpoint: Checkpoint, options: WriteOptions): Promise<WriteReport> {
  const { out } = options;
  if (existsSync(out) && readdirSync(out).length > 0)
    throw new Problem(`${out} is not empty; name a new folder, or empty it first`);
  const shards = planShards(checkpoint, options);
  const total = shards.flat().reduce((sum, { bytes }) => sum + bytes, 0);
  const temporary = `${out}.${randomUUID()}.tmp`;
  await mkdir(temporary, { recursive: true });
  try {
    let written = 0;
    const onBlock = (bytes: number) => {
      written += bytes;
      options.onProgress?.(written, total);
    };
    const weightMap: Record<string, string> = {};
    for (const [index, tensors] of shards.entries()) {
      const name = shardName(index, shards.length);
      for (const tensor of tensors) weightMap[tensor.name] = name;
      await inFile(join(temporary, name), (file) => writeShard(file, tensors, onBlock, options.signal));
    }
    if (shards.length > 1) {
      const index = { metadata: { total_size: total }, weight_map: weightMap };
      const text = `${JSON.stringify(index, null, 2)}\n`;
      await inFile(join(temporary, 'model.safetensors.index.json'), (file) => file.appendFile(text));
    }
    const companions = await companionFiles(checkpoint.dir, options.tokenizer, weightsConfig(checkpoint, shards));
    for (const [name, data] of [...companions, ...Object.entries(options.notes ?? {})])
      await inFile(join(temporary, name), (file) => file.appendFile(data));
    await syncFolder(temporary);
    if (existsSync(out)) await rmdir(out);
    await rename(temporary, out);
    await syncFolder(dirname(out));
    return { out, bytes: total, shards: shards.length };
  } catch (error) {
    await rm(temporary, { recursive: true, force: true });
    throw error;
  }
}

/** Fills shards in execution order; a tensor larger than a shard stands alone in its own. */
function planShards(checkpoint: Checkpoint, { dtypeOf, maxShardBytes }: WriteOptions): PlannedTensor[][] {
  const shards: PlannedTensor[][] = [];
  let room = 0;
  for (const spec of modelParams(checkpoint.config).specs) {
    const dtype = dtypeOf(spec);
    const bytes = elementCount(spec.shape) * elementBytes(dtype);
    const tensor = { ...spec, dtype, bytes, rows: paramRows(checkpoint, spec) };
    const last = shards.at(-1);
    if (last !== undefined && bytes <= room) last.push(tensor);
    else {
      shards.push([tensor]);
      room = maxShardBytes;
    }
    room -= bytes;
  }
  return shards;
}

function shardName(index: number, count: number): string {
  const digits = (value: number) => String(value).padStart(5, '0');
  return count === 1 ? 'model.safetensors' : `model-${digits(index + 1)}-of-${digits(count)}.safetensors`;
}

async function writeShard(
  file: FileHandle,
  tensors: readonly PlannedTensor[],
  onBlock: (bytes: number) => void,
  signal: AbortSignal | undefined,
): Promise<void> {
  // transformers asks for it before it loads a file.
  await file.appendFile(encodeHeader(tensors, { format: 'pt' }));
  for (const { name, dtype, shape, rows } of tensors) {
    for (const { begin, end } of rowBlocks(shape)) {
      signal?.throwIfAborted();
      const values = rows(begin, end);
      checkFinite(values, dtype, name);
      const data = encodeFloats(dtype, values);
      await file.appendFile(data);
      onBlock(data.byteLength);
    }
  }
}

/** From here on a value rounds to an infinity: halfway from the dtype's largest number to the next power of two. */
const OVERFLOW = { F32: Number.POSITIVE_INFINITY, F16: 65_520, BF16: 2 ** 128 - 2 ** 119 } as const;

function checkFinite(values: Float32Array, dtype: ParamDtype, name: string): void {
  const bound = OVERFLOW[dtype];
  // By index: iterating a typed array costs ten times as much.
  for (let i = 0; i < values.length; i++) {
    const value = values[i] ?? 0;
    if (Math.abs(value) < bound) continue;
    throw new Problem(
      Number.isFinite(value)
        ? `tensor ${name} holds ${value}, too large for ${DTYPE_NAMES[dtype]}; choose another dtype`
        : `tensor ${name} is not finite: one of the models holds an infinity or NaN`,
    );
  }
}

/** What `config.json` is to say of the weights. */
function weightsConfig({ config }: Checkpoint, shards: readonly PlannedTensor[][]): Record<string, unknown> {
  const [dtype, ...others] = new Set(shards.flat().map((tensor) => tensor.dtype));
  // `dtype` since transformers 5, `torch_dtype` before; a reader of either must find what is true.
  const names =
    dtype === undefined || others.length > 0 ? {} : { torch_dtype: DTYPE_NAMES[dtype], dtype: DTYPE_NAMES[dtype] };
  return { ...names, vocab_size: config.vocabSize };
}

/** Creates a file, writes it and syncs it. */
async function inFile(path: string, write: (file: FileHandle) => Promise<void>): Promise<void> {
  const file = await open(path, 'wx');
  try {
    await write(file);
    await file.sync();
  } finally {
    await file.close();
  }
}
