/**
 * SHA-256 of parts of files, in a thread beside whatever else is computed.
 *
 * One message can't keep a core busy, since its rounds wait for each other. Where x86 has SHA instructions, two parts are hashed at a time, which takes about
 * 0.7 of OpenSSL's time; where it has AVX-512 or AVX2, as many as a vector has lanes; elsewhere OpenSSL does it.
 */
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import type { InstructionSet } from './index.ts';

export interface FileRange {
  readonly path: string;
  readonly offset: number;
  readonly bytes: number;
}

/** Of the addon; undefined where the machine has no instructions for it. */
export type NativeSha256 = (
  paths: readonly string[],
  offsets: Float64Array,
  lengths: Float64Array,
  coresLeft: number,
  instructionSet?: InstructionSet,
) => Promise<string[]>;

/** Hashes of `ranges` in lower-case hex. @throws Error naming the file that can't be read to the end of its range. */
export function sha256With(
  native: NativeSha256 | undefined,
  ranges: readonly FileRange[],
  coresLeft: number,
): Promise<string[]> {
  if (native === undefined) return inWorker(ranges);
  return native(
    ranges.map(({ path }) => path),
    Float64Array.from(ranges, ({ offset }) => offset),
    Float64Array.from(ranges, ({ bytes }) => bytes),
    coresLeft,
  );
}

async function inWorker(ranges: readonly FileRange[]): Promise<string[]> {
  const worker = new Worker(new URL('./sha256-worker.mjs', import.meta.url), { workerData: ranges });
  const [digests] = (await once(worker, 'message')) as [string[]];
  return digests;
}
