/**
 * A checkpoint's way from the disk, and its hashing, begun before anybody can make use of them. Imports next to nothing: it is called while the modules that do are still being
 * read. What is wrong with a folder is for others to say: here it only means that nothing is begun.
 */
import { closeSync, openSync, readdirSync, readSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { type FileRange, readAhead, sha256Ranges } from '@signpost/kernels';

/** Less than this is hashed sooner than a thread has started. */
export const THREAD_BYTES = 256 * 1024 * 1024;
/** The format's own bound on a header, and its length field. */
const MAX_HEADER_BYTES = 100_000_000;
const LENGTH_BYTES = 8;

interface Begun {
  readonly digests: Promise<readonly string[]>;
  readonly index: number;
}

/** By the part of a file as it is on the disk: written to since, it is another. */
const begun = new Map<string, Begun>();

/**
 * Has the system read a folder's weights, and hashes them, beside whatever else is done.
 *
 * @param sooner files that are needed sooner: piece by piece, as they are asked for, they would wait behind all of the weights.
 */
export function readCheckpointAhead(dir: string, sooner: readonly string[] = []): void {
  const paths = filesOf(dir)
    .filter((name) => name.endsWith('.safetensors'))
    .sort()
    .map((name) => join(dir, name));
  let ranges: readonly FileRange[] = [];
  try {
    ranges = paths.flatMap(tensorRanges);
  } catch {
    // Said by whoever opens it.
  }
  // What is hashed comes from the disk for that; read in the file's order beside it, everybody else's pieces would wait behind both.
  const isHashed = ranges.reduce((sum, { bytes }) => sum + bytes, 0) >= THREAD_BYTES;
  readAhead(isHashed ? [...sooner] : [...sooner, ...paths]);
  if (!isHashed) return;
  const keys = keysOf(ranges);
  // JavaScript reads modules meanwhile, and starts the threads that compute.
  const digests = sha256Ranges(ranges, 1);
  // Whoever asks for them hashes anew, and is told what is wrong.
  digests.catch(() => undefined);
  for (const [index, key] of keys.entries()) begun.set(key, { digests, index });
}

/** SHA-256 of parts of files in lower-case hex, by what was begun where all of them were. @throws as `sha256Ranges`. */
export async function hashedAhead(ranges: readonly FileRange[]): Promise<readonly string[]> {
  const found = begun.size === 0 ? [] : keysOf(ranges).flatMap((key) => begun.get(key) ?? []);
  if (found.length < ranges.length || ranges.length === 0) return sha256Ranges(ranges);
  const digests = await Promise.all(found.map(async (one) => (await one.digests.catch(() => []))[one.index]));
  const whole = digests.filter((digest) => digest !== undefined);
  return whole.length === ranges.length ? whole : sha256Ranges(ranges);
}

function keysOf(ranges: readonly FileRange[]): string[] {
  const files = new Map(Array.from(new Set(ranges.map(({ path }) => path)), (path) => [path, identityOf(path)]));
  return ranges.map(({ path, offset, bytes }) => `${files.get(path)} ${offset} ${bytes}`);
}

function identityOf(path: string): string {
  const { dev, ino, size, mtimeNs, ctimeNs } = statSync(path, { bigint: true });
  return [dev, ino, size, mtimeNs, ctimeNs].join(' ');
}

/** Where a safetensors file's tensors stand. @throws where it isn't one. */
function tensorRanges(path: string): FileRange[] {
  const file = openSync(path, 'r');
  try {
    const read = (bytes: number, from: number) => {
      const buffer = Buffer.alloc(bytes);
      if (readSync(file, buffer, 0, bytes, from) < bytes) throw new Error(`${path} is too short`);
      return buffer;
    };
    const headerBytes = Number(read(LENGTH_BYTES, 0).readBigUInt64LE());
    if (headerBytes > MAX_HEADER_BYTES) throw new Error(`${path} has no header`);
    const header: unknown = JSON.parse(read(headerBytes, LENGTH_BYTES).toString());
    return Object.entries(header as Record<string, { readonly data_offsets?: readonly [number, number] }>).flatMap(
      ([name, { data_offsets: place }]) => {
        if (name === '__metadata__' || place === undefined) return [];
        return { path, offset: LENGTH_BYTES + headerBytes + place[0], bytes: place[1] - place[0] };
      },
    );
  } finally {
    closeSync(file);
  }
}

function filesOf(dir: string): string[] {
  try {
    return readdirSync(dir);
  } catch {
    return [];
  }
}
