/**
 * Bytes too many to hold: read a range at a time, hashed as they pass.
 */
import { createHash } from 'node:crypto';
import { open } from 'node:fs/promises';
import { type Digest, Problem } from '@signpost/contracts';
import { readFully } from './file-store.ts';
import { ObjectMissing, type ObjectStore } from './object-store.ts';

const RANGE_BYTES = 8 * 2 ** 20;

/** Bytes that can be read in ranges: a file, or an object in a store. */
export interface ByteSource {
  /** What messages call it. */
  readonly where: string;
  readonly bytes: number;
  /** Bytes `start` … `end - 1`. */
  read(start: number, end: number): Promise<Uint8Array>;
  close(): Promise<void>;
}

export async function openFile(path: string): Promise<ByteSource> {
  const file = await open(path, 'r').catch((cause: unknown) => {
    throw new Problem(`${path}: ${cause instanceof Error ? cause.message : cause}`, { cause });
  });
  const { size } = await file.stat();
  return {
    where: path,
    bytes: size,
    read: (start, end) => readFully(file, start, end, path),
    close: () => file.close(),
  };
}

/** @throws ObjectMissing when there is no such object. */
export async function openObject(store: ObjectStore, key: string): Promise<ByteSource> {
  const found = await store.head(key);
  if (found === undefined) throw new ObjectMissing(store.url, key);
  return {
    where: `${store.url}/${key}`,
    bytes: found.bytes,
    read: async (start, end) => (await store.read(key, { range: { start, end } })).data,
    close: async () => undefined,
  };
}

/** All of a source's bytes. `onRead` is called with the bytes read so far; an aborted `signal` ends it with its reason. */
export async function* readAll(
  source: ByteSource,
  onRead: (bytes: number) => void = () => undefined,
  signal?: AbortSignal,
): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < source.bytes; at += RANGE_BYTES) {
    signal?.throwIfAborted();
    const end = Math.min(at + RANGE_BYTES, source.bytes);
    yield await source.read(at, end);
    onRead(end);
  }
}

/** sha256 of a stream, without holding it. */
export async function sha256Stream(chunks: AsyncIterable<Uint8Array>): Promise<Digest> {
  const hash = createHash('sha256');
  for await (const chunk of chunks) hash.update(chunk);
  return hash.digest('hex') as Digest;
}

/**
 * Passes a stream on, and fails at its end unless its sha256 is `digest`: a writer that makes objects whole or not at all then makes none.
 *
 * @throws Problem when the bytes are others.
 */
export async function* checkedStream(
  chunks: AsyncIterable<Uint8Array>,
  digest: Digest,
  where: string,
): AsyncGenerator<Uint8Array> {
  const hash = createHash('sha256');
  for await (const chunk of chunks) {
    hash.update(chunk);
    yield chunk;
  }
  const found = hash.digest('hex');
  if (found !== digest)
    throw new Problem(`${where} changed while it was read: its sha256 was ${digest} and is now ${found}; try again`);
}
