/**
 * An expert's delta file, read in parallel ranges and handed out in file order as soon as each is known to be right: a region computes with its
 * first layers before its last ones have come.
 *
 * Never holds more than `parallel` chunks, whatever the file's size.
 */
import { createHash } from 'node:crypto';
import { setMaxListeners } from 'node:events';
import { chunkCount, type Digest, type ExpertVersion, Problem, sha256 } from '@signpost/contracts';
import type { ByteRange, ObjectStore } from './object-store.ts';

/** Of a file whose catalogue entry has no chunk hashes. */
const UNHASHED_RANGE_BYTES = 4 * 2 ** 20;
const DEFAULT_PARALLEL = 4;
const DIGEST_BYTES = 32;

export interface VerifiedReadOptions {
  /** Ends it, and every transfer, with its reason. */
  readonly signal?: AbortSignal | undefined;
  /** Ranges under way at once, or waiting for their turn in the file's order. */
  readonly parallel?: number;
  /** Takes bytes in file order; the next ones wait for it. */
  readonly onChunk: (data: Uint8Array, start: number) => void | Promise<void>;
}

/**
 * Reads a delta file. With the catalogue's chunk hashes, each chunk is handed out once its own hash is right; one that isn't is read once more. They cover
 * the file, and the catalogue vouches for them as it does for the digest: nothing is hashed twice. Without them, nothing is known to be right before the
 * digest is, and all is handed out then.
 *
 * @throws Problem when size, a chunk or the digest differ from the catalogue's; what was handed out by then must be thrown away. ObjectMissing when it
 * is gone; the `signal`'s reason when it aborts.
 */
export async function readVerified(
  store: ObjectStore,
  version: ExpertVersion,
  { signal, parallel = DEFAULT_PARALLEL, onChunk }: VerifiedReadOptions,
): Promise<void> {
  const where = `${store.url}/${version.key}`;
  const held: { data: Uint8Array; start: number }[] = [];
  const failed = new AbortController();
  const stop = signal === undefined ? failed.signal : AbortSignal.any([signal, failed.signal]);
  // Each range listens; Node warns of more than ten.
  setMaxListeners(0, stop);
  const { ranges, digests } = plan(version);
  const read = async (index: number): Promise<Uint8Array> => {
    const range = ranges[index] ?? { start: 0, end: 0 };
    const wanted = digests?.[index];
    const data = await readRange(store, version, range, stop);
    if (wanted === undefined || (await sha256(data)) === wanted) return data;
    const again = await readRange(store, version, range, stop);
    const found = await sha256(again);
    if (found === wanted) return again;
    throw new Problem(
      `${where}: bytes ${range.start}–${range.end} have digest ${found}, the catalogue says ${wanted}, in two readings: altered; publish it again`,
    );
  };
  const reading = new Map<number, Promise<Uint8Array>>();
  let begun = 0;
  try {
    for (let next = 0; next < ranges.length; next++) {
      for (; begun < Math.min(next + parallel, ranges.length); begun++) {
        const chunk = read(begun);
        // Awaited in its turn; until then its failure is nobody's.
        chunk.catch(() => undefined);
        reading.set(begun, chunk);
      }
      const data = (await reading.get(next)) ?? new Uint8Array();
      reading.delete(next);
      const start = ranges[next]?.start ?? 0;
      if (digests === undefined) held.push({ data, start });
      else await onChunk(data, start);
      signal?.throwIfAborted();
    }
  } catch (error) {
    failed.abort(error);
    await Promise.allSettled(reading.values());
    throw error;
  }
  if (digests !== undefined) return;
  const whole = createHash('sha256');
  for (const { data } of held) whole.update(data);
  const digest = whole.digest('hex');
  if (digest !== version.digest)
    throw new Problem(`${where} has digest ${digest}, the catalogue says ${version.digest}: altered; publish it again`);
  for (const { data, start } of held) await onChunk(data, start);
}

/**
 * Reads an expert's delta file whole, checked against the catalogue.
 *
 * @throws as `readVerified`.
 */
export async function readExpert(
  store: ObjectStore,
  version: ExpertVersion,
  options: Omit<VerifiedReadOptions, 'onChunk'> = {},
): Promise<Uint8Array> {
  // Before memory is taken on the catalogue's word.
  await checkSize(store, version, options.signal);
  const bytes = new Uint8Array(version.bytes);
  await readVerified(store, version, { ...options, onChunk: (data, start) => bytes.set(data, start) });
  return bytes;
}

function plan({ bytes, chunks }: ExpertVersion): {
  readonly ranges: readonly ByteRange[];
  readonly digests: readonly Digest[] | undefined;
} {
  const size = chunks?.bytes ?? UNHASHED_RANGE_BYTES;
  const ranges = Array.from({ length: chunkCount(bytes, size) }, (_, i) => ({
    start: i * size,
    end: Math.min((i + 1) * size, bytes),
  }));
  if (chunks === undefined) return { ranges, digests: undefined };
  const joined = Buffer.from(chunks.sha256, 'base64');
  const digests = ranges.map(
    (_, i) => joined.subarray(i * DIGEST_BYTES, (i + 1) * DIGEST_BYTES).toString('hex') as Digest,
  );
  return { ranges, digests };
}

async function readRange(
  store: ObjectStore,
  version: ExpertVersion,
  range: ByteRange,
  signal: AbortSignal,
): Promise<Uint8Array> {
  let stored: { readonly bytes: number; readonly data: Uint8Array };
  try {
    stored = await store.read(version.key, { range, signal });
  } catch (error) {
    signal.throwIfAborted();
    // A range that lies outside says less than why it does.
    if (error instanceof Problem) await checkSize(store, version, signal);
    throw error;
  }
  if (stored.bytes !== version.bytes) throw wrongSize(store, version, stored.bytes);
  return stored.data;
}

async function checkSize(store: ObjectStore, version: ExpertVersion, signal: AbortSignal | undefined): Promise<void> {
  const found = await store.head(version.key, { signal });
  if (found !== undefined && found.bytes !== version.bytes) throw wrongSize(store, version, found.bytes);
}

function wrongSize({ url }: ObjectStore, { key, bytes }: ExpertVersion, found: number): Problem {
  return new Problem(
    `${url}/${key} has ${found} bytes, the catalogue says ${bytes}: truncated or replaced; publish it again`,
  );
}

/** The sha256 of each chunk of `chunkBytes` of a stream, joined, in base64: as the catalogue has them. */
export class ChunkHasher {
  readonly #chunkBytes: number;
  readonly #digests: Buffer[] = [];
  #hash = createHash('sha256');
  #filled = 0;

  constructor(chunkBytes: number) {
    this.#chunkBytes = chunkBytes;
  }

  /** Passes a stream on, and hashes it as it goes. */
  async *through(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
    for await (const chunk of chunks) {
      for (let at = 0; at < chunk.byteLength; ) {
        const piece = chunk.subarray(at, at + this.#chunkBytes - this.#filled);
        this.#hash.update(piece);
        this.#filled += piece.byteLength;
        at += piece.byteLength;
        if (this.#filled === this.#chunkBytes) this.#end();
      }
      yield chunk;
    }
  }

  /** Ends the last chunk. */
  digests(): string {
    if (this.#filled > 0) this.#end();
    return Buffer.concat(this.#digests).toString('base64');
  }

  #end(): void {
    this.#digests.push(this.#hash.digest());
    this.#hash = createHash('sha256');
    this.#filled = 0;
  }
}
