/**
 * Reads that cross into the thread and back, over a real folder.
 */
import { randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Digest, type ExpertVersion, sha256 } from '@signpost/contracts';
import { ChunkHasher, openStore } from '@signpost/store';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { DiskCache } from './disk-cache.ts';
import type { ReadingOptions } from './expert-reader.ts';
import { FetchThread } from './fetch-thread.ts';

const CHUNK = 1_000;
const never = new AbortController().signal;

let dir: string;
let store: string;
let thread: FetchThread;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'signpost-fetch-'));
  store = join(dir, 'store');
  thread = new FetchThread({ store, disk: undefined });
});
afterAll(() => rm(dir, { recursive: true }));

async function publish(data: Uint8Array): Promise<ExpertVersion> {
  const digest = await sha256(data);
  const key = `experts/${digest}`;
  await openStore(store).write(key, data);
  const hasher = new ChunkHasher(CHUNK);
  async function* whole() {
    yield data;
  }
  for await (const _ of hasher.through(whole()));
  return {
    digest,
    base: 'b'.repeat(64) as Digest,
    key,
    bytes: data.byteLength,
    method: 'sign',
    published: '2026-01-01T00:00:00Z',
    chunks: { bytes: CHUNK, sha256: hasher.digests() },
  };
}

async function read(
  from: FetchThread,
  version: ExpertVersion,
  signal: AbortSignal = never,
  onMismatch?: ReadingOptions['onMismatch'],
): Promise<Uint8Array> {
  const pieces: Uint8Array[] = [];
  let next = 0;
  const onChunk = (data: Uint8Array, start: number) => {
    expect(start).toBe(next);
    next += data.byteLength;
    pieces.push(data);
  };
  await from.read('store', version, { signal, onChunk, onMismatch });
  return Buffer.concat(pieces);
}

describe('the thread that reads experts', () => {
  it('hands over files in order, several at a time', async () => {
    const files = [CHUNK * 3 + 7, 10, CHUNK * 40].map((bytes) => randomBytes(bytes));
    const versions = await Promise.all(files.map(publish));
    const found = await Promise.all(versions.map((version) => read(thread, version)));
    expect(found).toEqual(files);
  });

  it('fails with the reason, and goes on', async () => {
    const file = randomBytes(CHUNK * 3);
    const version = await publish(file);
    const altered = Buffer.from(file);
    altered.writeUInt8((altered.at(CHUNK) ?? 0) ^ 1, CHUNK);
    await openStore(store).write(version.key, altered);
    const failed: string[] = [];
    const onMismatch = (check: string) => void failed.push(check);
    await expect(read(thread, version, never, onMismatch)).rejects.toThrow(/bytes 1000–2000 have digest .*altered/);
    // In two readings.
    expect(failed).toEqual(['chunk', 'chunk']);
    await openStore(store).write(version.key, file);
    expect(await read(thread, version)).toEqual(file);
  });

  it('leaves at once when it is told to', async () => {
    const version = await publish(randomBytes(CHUNK));
    const reason = new Error('left');
    await expect(read(thread, version, AbortSignal.abort(reason))).rejects.toBe(reason);
    const leaves = new AbortController();
    const reading = read(thread, version, leaves.signal);
    leaves.abort(reason);
    await expect(reading).rejects.toBe(reason);
  });

  it('reads for the disk cache, without the store', async () => {
    const file = randomBytes(CHUNK * 2);
    const version = await publish(file);
    const folder = join(dir, 'disk');
    const places = new FetchThread({ store, disk: folder });
    const disk = await DiskCache.open(folder, 2 ** 20, undefined, (kept, reading) =>
      places.read('disk', kept, reading),
    );
    await disk.write(version, () => ({ bytes: file, release: () => undefined }));
    await rm(join(store, version.key));
    const pieces: Uint8Array[] = [];
    expect(await disk.read(version, { onChunk: (data) => void pieces.push(data) })).toBe(true);
    expect(Buffer.concat(pieces)).toEqual(file);
    await expect(thread.read('disk', version, { onChunk: () => undefined })).rejects.toThrow(/no disk/);
  });

  it('that ends fails what it was to read, and another is started for the next', async () => {
    const broken = new FetchThread({ store: 'nowhere://at-all', disk: undefined });
    const version = await publish(randomBytes(CHUNK));
    for (let time = 0; time < 2; time++) await expect(read(broken, version)).rejects.toThrow(/nowhere/);
  });
});
