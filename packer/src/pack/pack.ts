/**
 * Packing: the difference between a fine-tune and its base as a delta file.
 *
 * One streaming pass in execution order. The file grows under a temporary name and gets its own only when it is whole and synced.
 */
import { randomUUID } from 'node:crypto';
import { type FileHandle, mkdir, open, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { DELTA_FORMAT, type Digest, encodeHeader, Problem } from '@signpost/contracts';
import type { Checkpoint } from '@signpost/engine';
import manifest from '../../package.json' with { type: 'json' };
import { binarise, exactDifference } from './difference.ts';
import { type PackParameters, type PlannedParam, planPack, tensorsOf } from './plan.ts';

export interface PackOptions extends PackParameters {
  /** Expert name, as written in the file. */
  readonly name: string;
  /** Path of the delta file. */
  readonly out: string;
  /** Called after each parameter with the bytes read so far, of both checkpoints. */
  readonly onProgress?: (readBytes: number, totalBytes: number) => void;
  /** Stops the run; nothing is left behind. */
  readonly signal?: AbortSignal;
}

export interface PackReport {
  readonly out: string;
  readonly base: Digest;
  readonly source: Digest;
  readonly bytes: number;
  /** Bytes of the fine-tune's tensors. */
  readonly sourceBytes: number;
  /** ‖Δ − Δ̂‖ / ‖Δ‖ by matrix. */
  readonly errors: Readonly<Record<string, number>>;
}

/** Relative errors are written with a fixed width, so that the header's size is known before they are. */
const ERROR_DECIMALS = 8;

/**
 * Packs `tuned` against `base` into `options.out`.
 *
 * @throws Problem when the checkpoints don't belong together, nothing changed, or a difference is not finite.
 */
export async function pack(base: Checkpoint, tuned: Checkpoint, options: PackOptions): Promise<PackReport> {
  const planned = planPack(base, tuned);
  if (planned.length === 0) throw new Problem(`${tuned.dir} is the same as ${base.dir}: there is nothing to pack`);
  const digests = { base: await base.digest(), source: await tuned.digest() };
  const errors: Record<string, number> = {};
  for (const { kind, stem } of planned) if (kind === '1bit') errors[stem] = 0;
  const header = () =>
    encodeHeader(
      planned.flatMap((param) => tensorsOf(param, options)),
      metadata(options, digests, errors),
    );

  await mkdir(dirname(options.out), { recursive: true });
  const temporary = `${options.out}.${randomUUID()}.tmp`;
  const file = await open(temporary, 'wx');
  try {
    const { byteLength: headerBytes } = header();
    let at = headerBytes;
    let read = 0;
    const total = planned.reduce((sum, param) => sum + readBytes(param), 0);
    for (const param of planned) {
      options.signal?.throwIfAborted();
      const { parts, error } = packParam(param, options);
      if (error !== undefined) errors[param.stem] = error;
      for (const part of parts) {
        await writeAt(file, part, at);
        at += part.byteLength;
      }
      read += readBytes(param);
      options.onProgress?.(read, total);
    }
    const final = header();
    if (final.byteLength !== headerBytes)
      throw new Error(`the header grew from ${headerBytes} to ${final.byteLength} bytes`);
    await writeAt(file, final, 0);
    await file.sync();
    await file.close();
    await rename(temporary, options.out);
    return {
      out: options.out,
      ...digests,
      bytes: at,
      sourceBytes: [...tuned.tensors.values()].reduce((sum, { info }) => sum + info.bytes, 0),
      errors,
    };
  } catch (error) {
    await file.close().catch(() => undefined);
    await rm(temporary, { force: true });
    throw error;
  }
}

/** One `write` call may write less than it was given, on a full disk say. */
async function writeAt(file: FileHandle, data: Uint8Array, position: number): Promise<void> {
  let done = 0;
  while (done < data.byteLength) {
    const { bytesWritten } = await file.write(data, done, data.byteLength - done, position + done);
    done += bytesWritten;
  }
}

function readBytes({ base, tuned }: PlannedParam): number {
  return base.info.bytes + tuned.info.bytes;
}

function packParam(param: PlannedParam, parameters: PackParameters): { parts: Uint8Array[]; error?: number } {
  if (param.kind === 'exact') return { parts: [bytesOf(exactDifference(param))] };
  const { planes, error } = binarise(param, parameters);
  return { parts: planes.flatMap(({ signs, rowScale }) => [bytesOf(signs), bytesOf(rowScale)]), error };
}

function bytesOf(values: Uint32Array | Float32Array | Uint16Array): Uint8Array {
  return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
}

function metadata(
  options: PackOptions,
  digests: { base: Digest; source: Digest },
  errors: Record<string, number>,
): Record<string, string> {
  const fixed = Object.entries(errors).map(
    ([stem, error]) => `${JSON.stringify(stem)}:${error.toFixed(ERROR_DECIMALS)}`,
  );
  return {
    format: DELTA_FORMAT,
    base: digests.base,
    expert: options.name,
    method: 'sign',
    parameters: JSON.stringify({ scale: options.scale, planes: options.planes }),
    errors: `{${fixed.join()}}`,
    source: digests.source,
    packer: manifest.version,
  };
}
