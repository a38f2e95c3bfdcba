/**
 * A region's base, from the store: fetched in parallel ranges, each checked, as it stands in its file, against the hash that the signed catalogue vouches for.
 *
 * Killed at any time, the next start goes on with what is there. Never holds more than `PARALLEL_CHUNKS` chunks, whatever the base's size.
 */
import { setMaxListeners } from 'node:events';
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
import { sha256Ranges } from '@signpost/engine';
import type { ObjectStore } from '@signpost/store';
import { BaseCache, type CachedBase } from './base-cache.ts';

/** `--base store:NAME`. */
export const STORED_BASE = 'store:';

/** With 8 MiB each, what 10 Gbit/s carry in 100 ms, the time that object storage takes to answer. */
const PARALLEL_CHUNKS = 16;

/** Hashed at once: as many as the widest vectors have lanes. */
const CHECKED_CHUNKS = 16;

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

export interface FetchedBase extends CachedBase {
  /** Whether each of its bytes was checked now. */
  readonly isFetched: boolean;
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
export async function fetchBase(store: ObjectStore, options: FetchBaseOptions): Promise<FetchedBase> {
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
    return { ...only, isFetched: false };
  }
  const found = await cache.find(wanted.manifest.digest);
  if (found !== undefined) return { ...found, isFetched: false };
  const manifest = await readManifest(store, wanted.manifest, wanted.digest, signal);
  const dir = await cache.begin(wanted.manifest.digest, manifest);
  await fetchFiles(store, dir, manifest, options);
  // A disk may take longer to write a base than the network took to bring it; nobody has to wait for that.
  cache.keep({ dir }, manifest).then(() => options.onKept(), options.onKept);
  return { dir, digest: manifest.base, isFetched: true };
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
  readonly path: string;
  readonly handle: FileHandle;
  readonly start: number;
  readonly end: number;
  readonly digest: Digest;
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
  // Each range listens; Node warns of more than ten.
  setMaxListeners(0, stop);
  try {
    const [missing, tried]: [Chunk[], Chunk[]] = [[], []];
    for (const file of files) {
      const path = join(dir, file.name);
      const handle = await openPart(path);
      handles.push(handle);
      const chunks = (await handle.stat()).blocks > 0 ? tried : missing;
      // Its length from the beginning: chunks come in any order.
      await handle.truncate(file.bytes);
      for (const [index, digest] of file.chunks.entries()) {
        const start = index * file.chunkBytes;
        chunks.push({ file, path, handle, start, end: Math.min(start + file.chunkBytes, file.bytes), digest });
      }
    }
    const totalBytes = files.reduce((sum, { bytes }) => sum + bytes, 0);
    let [bytes, fetchedBytes] = [0, 0];
    const count = ({ start, end }: Chunk) => {
      bytes += end - start;
      onProgress({ bytes, totalBytes, fetchedBytes });
    };
    const there = await rightOnes(tried);
    for (const chunk of tried) {
      if (there.has(chunk)) count(chunk);
      else missing.push(chunk);
    }
    // What is written is hashed as it stands in the file, many chunks at once, while others come.
    let written: Chunk[] = [];
    async function check(): Promise<void> {
      const batch = written;
      written = [];
      const right = await rightOnes(batch);
      for (const chunk of batch) {
        stop.throwIfAborted();
        if (!right.has(chunk)) await writeFully(chunk, await readAgain(store, chunk, stop));
        fetchedBytes += chunk.end - chunk.start;
        count(chunk);
      }
    }
    let checking = Promise.resolve();
    const checked = (hasMore: () => boolean) => {
      checking = checking.then(async () => {
        if (hasMore()) await check();
      });
      // Awaited at the end; until then its failure ends the rest.
      checking.catch((error: unknown) => failed.abort(error));
      return checking;
    };
    let next = 0;
    async function work(): Promise<void> {
      for (let chunk = missing[next++]; chunk !== undefined; chunk = missing[next++]) {
        stop.throwIfAborted();
        await writeFully(chunk, await readOnce(store, chunk, stop));
        written.push(chunk);
        void checked(() => written.length >= CHECKED_CHUNKS);
      }
    }
    const workers = Array.from({ length: PARALLEL_CHUNKS }, () =>
      work().catch((error: unknown) => {
        failed.abort(error);
        throw error;
      }),
    );
    await Promise.allSettled(workers);
    await checking;
    await Promise.all(workers);
    await checked(() => true);
  } finally {
    await Promise.all(handles.map((handle) => handle.close()));
  }
}

/** For reading and writing, as it is; made where there is none. */
async function openPart(path: string): Promise<FileHandle> {
  return open(path, 'r+').catch(() => open(path, 'wx+'));
}

/** Those whose bytes in the file are the ones that the manifest says. */
async function rightOnes(chunks: readonly Chunk[]): Promise<ReadonlySet<Chunk>> {
  if (chunks.length === 0) return new Set();
  const ranges = chunks.map(({ path, start, end }) => ({ path, offset: start, bytes: end - start }));
  const digests = await sha256Ranges(ranges);
  return new Set(chunks.filter(({ digest }, i) => digests[i] === digest));
}

async function readOnce(store: ObjectStore, { file, start, end }: Chunk, signal: AbortSignal): Promise<Uint8Array> {
  const { data, bytes } = await store.read(file.key, { range: { start, end }, signal });
  if (bytes !== file.bytes)
    throw new Problem(
      `${store.url}/${file.key} (${file.name}) has ${bytes} bytes, expected ${file.bytes}: truncated or replaced; publish the base again`,
    );
  return data;
}

/** @throws Problem when what comes hashes to something else this time, too. */
async function readAgain(store: ObjectStore, chunk: Chunk, signal: AbortSignal): Promise<Uint8Array> {
  const { file, start, end, digest } = chunk;
  const data = await readOnce(store, chunk, signal);
  const found = await sha256(data);
  if (found === digest) return data;
  throw new Problem(
    `${store.url}/${file.key} (${file.name}): bytes ${start}–${end} have digest ${found}, expected ${digest}, in two readings: altered; publish the base again`,
  );
}

async function writeFully({ handle, start }: Chunk, data: Uint8Array): Promise<void> {
  for (let at = 0; at < data.byteLength; ) {
    const { bytesWritten } = await handle.write(data, at, data.byteLength - at, start + at);
    at += bytesWritten;
  }
}
