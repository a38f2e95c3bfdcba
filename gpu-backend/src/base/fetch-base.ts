/**
 * A region's base, from the store: fetched in parallel ranges, each checked against the hash that the signed catalogue vouches for before it is kept.
 *
 * Killed at any time, the next start goes on with what is there. Never holds more than `PARALLEL_CHUNKS` chunks, whatever the base's size.
 */
import { type FileHandle, open } from 'node:fs/promises';
import { join } from 'node:path';
import {
  type BaseFile,
  type BaseManifest,
  baseManifestSchema,
  type Catalogue,
  type Digest,
  Problem,
  parseWith,
  resolveBase,
  sha256,
} from '@signpost/contracts';
import type { ObjectStore } from '@signpost/store';
import { BaseCache, type CachedBase } from './base-cache.ts';

/** `--base store:NAME`. */
export const STORED_BASE = 'store:';

/** With 8 MiB each, what 10 Gbit/s carry in 100 ms, the time that object storage takes to answer. */
const PARALLEL_CHUNKS = 16;

export interface FetchBaseOptions {
  /** What stands behind `store:`: a name, the beginning of a digest, or nothing where there is one base. */
  readonly selector: string;
  /** Folder of the cache. */
  readonly cacheDir: string;
  readonly catalogue: () => Promise<Catalogue>;
  /** Told after each chunk how many bytes are there, and how many of them were fetched now. */
  readonly onProgress?: (progress: FetchProgress) => void;
  /** Told why the catalogue couldn't be read, where the cached base is used without it. */
  readonly onFallback: (error: unknown) => void;
  /** Told when the base would outlast a crash of the machine, or why it wouldn't. */
  readonly onKept: (error?: unknown) => void;
  readonly signal?: AbortSignal;
}

export interface FetchProgress {
  readonly bytes: number;
  readonly totalBytes: number;
  readonly fetchedBytes: number;
}

/**
 * Brings the base into the cache where it isn't there yet.
 *
 * Where the store can't be asked and the cache holds exactly one base, that one is it: a region comes up again while its store is gone.
 *
 * @throws Problem when the catalogue knows no such base or hasn't its files, bytes are wrong in two readings, or the disk is too small; what the catalogue
 * and the store fail with.
 */
export async function fetchBase(store: ObjectStore, options: FetchBaseOptions): Promise<CachedBase> {
  const { selector, catalogue, signal } = options;
  const cache = new BaseCache(options.cacheDir);
  let wanted: { readonly name: string; readonly digest: Digest; readonly manifest: Reference };
  try {
    wanted = inCatalogue(await catalogue(), selector, store.url);
  } catch (error) {
    if (error instanceof Problem) throw error;
    const [only, ...others] = await cache.all();
    if (only === undefined || others.length > 0) throw error;
    options.onFallback(error);
    return only;
  }
  const found = await cache.find(wanted.manifest.digest);
  if (found !== undefined) return found;
  const manifest = await readManifest(store, wanted.manifest, wanted.digest, signal);
  const dir = await cache.begin(wanted.manifest.digest, manifest);
  await fetchFiles(store, dir, manifest, options);
  // A disk may take longer to write a base than the network took to bring it; nobody has to wait for that.
  cache.keep({ dir }, manifest).then(() => options.onKept(), options.onKept);
  return { dir, digest: manifest.base };
}

interface Reference {
  readonly key: string;
  readonly bytes: number;
  readonly digest: Digest;
}

function inCatalogue(catalogue: Catalogue, selector: string, url: string) {
  const { digest, base } = resolveBase(catalogue, selector);
  if (base.manifest === undefined)
    throw new Problem(
      `${url} names the base ${base.name} and hasn't its files: signpost-packer publish-base DIR --store ${url}, or start with --base DIR`,
    );
  return { name: base.name, digest, manifest: base.manifest };
}

async function readManifest(
  store: ObjectStore,
  { key, bytes, digest }: Reference,
  base: Digest,
  signal: AbortSignal | undefined,
): Promise<BaseManifest> {
  const where = `${store.url}/${key}`;
  const { data } = await store.read(key, { range: { start: 0, end: bytes }, signal });
  const found = await sha256(data);
  if (found !== digest)
    throw new Problem(`${where} has digest ${found}, the catalogue says ${digest}: altered; publish the base again`);
  const manifest = parseWith(baseManifestSchema, JSON.parse(new TextDecoder().decode(data)), where);
  if (manifest.base !== base)
    throw new Problem(`${where} is of base ${manifest.base}, the catalogue says ${base}; publish the base again`);
  return manifest;
}

interface Chunk {
  readonly file: BaseFile;
  readonly handle: FileHandle;
  readonly start: number;
  readonly end: number;
  readonly digest: Digest;
  /** Whether an earlier attempt may have had it. */
  readonly isTried: boolean;
}

async function fetchFiles(
  store: ObjectStore,
  dir: string,
  { files }: BaseManifest,
  { onProgress = () => undefined, signal }: FetchBaseOptions,
): Promise<void> {
  const handles: FileHandle[] = [];
  const failed = new AbortController();
  const stop = signal === undefined ? failed.signal : AbortSignal.any([signal, failed.signal]);
  try {
    const chunks: Chunk[] = [];
    for (const file of files) {
      const handle = await openPart(join(dir, file.name));
      handles.push(handle);
      const isTried = (await handle.stat()).blocks > 0;
      // Its length from the beginning: chunks come in any order.
      await handle.truncate(file.bytes);
      for (const [index, digest] of file.chunks.entries()) {
        const start = index * file.chunkBytes;
        chunks.push({ file, handle, start, end: Math.min(start + file.chunkBytes, file.bytes), digest, isTried });
      }
    }
    const totalBytes = files.reduce((sum, { bytes }) => sum + bytes, 0);
    let [bytes, fetchedBytes, next] = [0, 0, 0];
    async function work(): Promise<void> {
      for (let chunk = chunks[next++]; chunk !== undefined; chunk = chunks[next++]) {
        stop.throwIfAborted();
        const size = chunk.end - chunk.start;
        if (!(chunk.isTried && (await isThere(chunk)))) {
          await writeFully(chunk.handle, await readChunk(store, chunk, stop), chunk.start);
          fetchedBytes += size;
        }
        bytes += size;
        onProgress({ bytes, totalBytes, fetchedBytes });
      }
    }
    const workers = Array.from({ length: PARALLEL_CHUNKS }, () =>
      work().catch((error: unknown) => {
        failed.abort(error);
        throw error;
      }),
    );
    await Promise.allSettled(workers);
    await Promise.all(workers);
  } finally {
    await Promise.all(handles.map((handle) => handle.close()));
  }
}

/** For reading and writing, as it is; made where there is none. */
async function openPart(path: string): Promise<FileHandle> {
  return open(path, 'r+').catch(() => open(path, 'wx+'));
}

async function isThere({ handle, start, end, digest }: Chunk): Promise<boolean> {
  const data = new Uint8Array(end - start);
  for (let at = 0; at < data.byteLength; ) {
    const { bytesRead } = await handle.read(data, at, data.byteLength - at, start + at);
    if (bytesRead === 0) return false;
    at += bytesRead;
  }
  return (await sha256(data)) === digest;
}

/** @throws Problem when what comes hashes to something else, in two readings. */
async function readChunk(store: ObjectStore, chunk: Chunk, signal: AbortSignal): Promise<Uint8Array> {
  const { file, start, end, digest } = chunk;
  const read = async () => {
    const { data, bytes } = await store.read(file.key, { range: { start, end }, signal });
    if (bytes !== file.bytes)
      throw new Problem(
        `${store.url}/${file.key} (${file.name}) has ${bytes} bytes, expected ${file.bytes}: truncated or replaced; publish the base again`,
      );
    return { data, hash: await sha256(data) };
  };
  const first = await read();
  if (first.hash === digest) return first.data;
  const second = await read();
  if (second.hash === digest) return second.data;
  throw new Problem(
    `${store.url}/${file.key} (${file.name}): bytes ${start}–${end} have digest ${second.hash}, expected ${digest}, in two readings: altered; publish the base again`,
  );
}

async function writeFully(handle: FileHandle, data: Uint8Array, position: number): Promise<void> {
  for (let at = 0; at < data.byteLength; ) {
    const { bytesWritten } = await handle.write(data, at, data.byteLength - at, position + at);
    at += bytesWritten;
  }
}
