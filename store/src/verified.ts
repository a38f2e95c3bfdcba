/**
 * An expert's delta file, read in parallel ranges and handed out in file order as soon as each is known to be right: a region computes with its
 * first layers before its last ones have come.
 *
 * Never holds more than `parallel` ranges, whatever the file's size.
 */
import { createHash } from 'node:crypto';
import { setMaxListeners } from 'node:events';
import { chunkCount, type Digest, type ExpertVersion, Problem, sha256 } from '@signpost/contracts';
import type { ByteRange, ObjectStore, ReadOptions, StoredObject } from './object-store.ts';

/** Bytes of a range, or one chunk where that is longer: chunks are handed out as they come in, however long their range is. */
export const RANGE_BYTES = 2 ** 20;
/** Of a file whose catalogue entry has no chunk hashes. */
const UNHASHED_RANGE_BYTES = 4 * 2 ** 20;
const DEFAULT_PARALLEL = 4;
const DIGEST_BYTES = 32;

/** What the catalogue says of a file: each chunk's hash; the whole file's, where it has none of chunks; its size. */
export type IntegrityCheck = 'chunk' | 'file' | 'size';

export interface VerifiedReadOptions {
  /** Ends it, and every transfer, with its reason. */
  readonly signal?: AbortSignal | undefined;
  /** Ranges under way at once, or waiting for their turn in the file's order. */
  readonly parallel?: number;
  /** Unless given, `RANGE_BYTES`. */
  readonly rangeBytes?: number;
  /** Takes bytes in file order; the next ones wait for it. */
  readonly onChunk: (data: Uint8Array, start: number) => void | Promise<void>;
  /** Told each time that bytes fail a check, also where the next reading has the right ones. */
  readonly onMismatch?: ((check: IntegrityCheck) => void) | undefined;
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
  options: VerifiedReadOptions,
): Promise<void> {
  const { signal, parallel = DEFAULT_PARALLEL, rangeBytes = RANGE_BYTES, onChunk } = options;
  const { onMismatch = () => undefined } = options;
  const failed = new AbortController();
  const stop = signal === undefined ? failed.signal : AbortSignal.any([signal, failed.signal]);
  // Each range listens; Node warns of more than ten.
  setMaxListeners(0, stop);
  const { chunkBytes, count, digests } = planOf(version);
  const rangeChunks = Math.max(1, Math.floor(rangeBytes / chunkBytes));
  /** Of ranges that have begun, those that weren't handed out yet. */
  const chunks = new Map<number, Chunk>();
  const reading = new Set<Promise<void>>();
  const failures: unknown[] = [];
  const held: { readonly data: Uint8Array; readonly start: number }[] = [];

  const begin = (first: number) => {
    const last = Math.min(first + rangeChunks, count);
    const inside = Array.from({ length: last - first }, (_, i) => {
      const start = (first + i) * chunkBytes;
      const range = { start, end: Math.min(start + chunkBytes, version.bytes) };
      return new Chunk(range, digests?.[first + i], () => onMismatch('chunk'));
    });
    for (const [i, chunk] of inside.entries()) chunks.set(first + i, chunk);
    const done = readChunks(store, version, inside, stop)
      .catch((error: unknown) => {
        failures.push(error);
        for (const chunk of inside) chunk.fail(error);
      })
      .finally(() => reading.delete(done));
    reading.add(done);
  };

  let begun = 0;
  try {
    for (let next = 0; next < count; next++) {
      for (; begun < Math.min(next + parallel * rangeChunks, count); begun += rangeChunks) begin(begun);
      const data = (await chunks.get(next)?.data) ?? new Uint8Array();
      chunks.delete(next);
      const start = next * chunkBytes;
      if (digests === undefined) held.push({ data, start });
      else await onChunk(data, start);
      signal?.throwIfAborted();
    }
    await Promise.all(reading);
    // Right as its chunks were: of an object that is longer.
    if (failures.length > 0) throw failures[0];
  } catch (error) {
    failed.abort(error);
    await Promise.all(reading);
    if (error instanceof WrongSize) onMismatch('size');
    throw error;
  }
  if (digests !== undefined) return;
  const whole = createHash('sha256');
  for (const { data } of held) whole.update(data);
  const digest = whole.digest('hex');
  if (digest !== version.digest) {
    onMismatch('file');
    throw new Problem(
      `${store.url}/${version.key} has digest ${digest}, the catalogue says ${version.digest}: altered; publish it again`,
    );
  }
  for (const { data, start } of held) await onChunk(data, start);
}

/** A chunk on its way. */
class Chunk {
  readonly range: ByteRange;
  /** Undefined where the catalogue doesn't say. */
  readonly digest: Digest | undefined;
  readonly data: Promise<Uint8Array>;
  readonly #onMismatch: () => void;
  #isRight = false;
  #resolve: (data: Uint8Array) => void = () => undefined;
  #reject: (error: unknown) => void = () => undefined;

  constructor(range: ByteRange, digest: Digest | undefined, onMismatch: () => void) {
    this.range = range;
    this.digest = digest;
    this.#onMismatch = onMismatch;
    this.data = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    // Awaited in its turn; until then its failure is nobody's.
    this.data.catch(() => undefined);
  }

  get isRight(): boolean {
    return this.#isRight;
  }

  /** Its bytes, if they are those. */
  async offer(data: Uint8Array): Promise<void> {
    if (this.#isRight) return;
    if (this.digest !== undefined && (await sha256(data)) !== this.digest) return this.#onMismatch();
    this.#isRight = true;
    this.#resolve(data);
  }

  fail(error: unknown): void {
    this.#reject(error);
  }
}

/** Reads chunks that follow each other by one range, and once more each that was wrong. */
async function readChunks(
  store: ObjectStore,
  version: ExpertVersion,
  chunks: readonly Chunk[],
  signal: AbortSignal,
): Promise<void> {
  const start = chunks[0]?.range.start ?? 0;
  const bytes = (chunks[0]?.range.end ?? 0) - start;
  const offers: Promise<void>[] = [];
  const take = (data: Uint8Array, at: number) => {
    const chunk = chunks[at / bytes];
    if (chunk !== undefined) offers.push(chunk.offer(data));
  };
  const range = { start, end: chunks.at(-1)?.range.end ?? 0 };
  // Without a hash, its size is all that is known of a chunk: of the whole object's, when it is in.
  const isHashed = chunks[0]?.digest !== undefined;
  const rest = await readRange(store, version, { range, signal, parts: isHashed ? { bytes, take } : undefined });
  for (let at = 0; at < rest.byteLength; at += bytes) take(rest.subarray(at, at + bytes), at);
  await Promise.all(offers);
  const wrong = chunks.filter(({ isRight }) => !isRight);
  await Promise.all(wrong.map((chunk) => readAgain(store, version, chunk, signal)));
}

/** @throws Problem when it is wrong again. */
async function readAgain(store: ObjectStore, version: ExpertVersion, chunk: Chunk, signal: AbortSignal): Promise<void> {
  const { range, digest } = chunk;
  const data = await readRange(store, version, { range, signal });
  await chunk.offer(data);
  if (chunk.isRight) return;
  throw new Problem(
    `${store.url}/${version.key}: bytes ${range.start}–${range.end} have digest ${await sha256(data)}, the catalogue says ${digest}, in two readings: altered; publish it again`,
  );
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

function planOf({ bytes, chunks }: ExpertVersion): {
  readonly chunkBytes: number;
  readonly count: number;
  /** Of each chunk; undefined where the catalogue has none. */
  readonly digests: readonly Digest[] | undefined;
} {
  const chunkBytes = chunks?.bytes ?? UNHASHED_RANGE_BYTES;
  const count = chunkCount(bytes, chunkBytes);
  const joined = chunks && Buffer.from(chunks.sha256, 'base64');
  const digestAt = (_: unknown, i: number) =>
    joined?.subarray(i * DIGEST_BYTES, (i + 1) * DIGEST_BYTES).toString('hex') as Digest;
  return { chunkBytes, count, digests: joined && Array.from({ length: count }, digestAt) };
}

async function readRange(
  store: ObjectStore,
  version: ExpertVersion,
  options: ReadOptions & { readonly signal: AbortSignal },
): Promise<Uint8Array> {
  const { signal } = options;
  let stored: StoredObject;
  try {
    stored = await store.read(version.key, options);
  } catch (error) {
    signal.throwIfAborted();
    // A range that lies outside says less than why it does.
    if (error instanceof Problem) await checkSize(store, version, signal);
    throw error;
  }
  if (stored.bytes !== version.bytes) throw new WrongSize(store, version, stored.bytes);
  return stored.data;
}

async function checkSize(store: ObjectStore, version: ExpertVersion, signal: AbortSignal | undefined): Promise<void> {
  const found = await store.head(version.key, { signal });
  if (found !== undefined && found.bytes !== version.bytes) throw new WrongSize(store, version, found.bytes);
}

class WrongSize extends Problem {
  constructor({ url }: ObjectStore, { key, bytes }: ExpertVersion, found: number) {
    super(`${url}/${key} has ${found} bytes, the catalogue says ${bytes}: truncated or replaced; publish it again`);
  }
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
