/**
 * Chunks in order, each right before it is handed out, whatever the store does.
 */
import { createHash, randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Digest, type ExpertVersion, sha256 } from '@signpost/contracts';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  ChunkHasher,
  HttpStore,
  ObjectMissing,
  type ObjectStore,
  openStore,
  RETRY_DEFAULTS,
  type ReadOptions,
  readExpert,
  readVerified,
} from './index.ts';
import { type Fault, flipBit, interceptStore, serveStore, startFaultyProxy } from './testing/index.ts';

const BASE = 'b'.repeat(64) as Digest;

let root: string;
let store: ObjectStore;
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'signpost-verified-'));
  store = openStore(root);
});
afterEach(() => rm(root, { recursive: true }));

async function* whole(data: Uint8Array): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < data.byteLength; at += 777) yield data.subarray(at, at + 777);
}

async function publish(data: Uint8Array, chunkBytes: number | undefined): Promise<ExpertVersion> {
  const digest = await sha256(data);
  const version = { digest, base: BASE, key: `experts/${digest}`, bytes: data.byteLength, method: 'sign' };
  await store.write(version.key, data);
  const published = '2026-01-01T00:00:00Z';
  if (chunkBytes === undefined) return { ...version, published };
  const hasher = new ChunkHasher(chunkBytes);
  for await (const _ of hasher.through(whole(data)));
  return { ...version, published, chunks: { bytes: chunkBytes, sha256: hasher.digests() } };
}

/** The store, with `spoil` applied to what it reads. */
function spoiled(spoil: (data: Uint8Array, start: number) => Uint8Array | Promise<Uint8Array>): ObjectStore {
  return interceptStore(store, {
    read: async (key: string, options: ReadOptions = {}) => {
      const stored = await store.read(key, options);
      return { ...stored, data: await spoil(stored.data, options.range?.start ?? 0) };
    },
  });
}

const flipped = (data: Uint8Array) => data.map((byte, i) => (i === data.byteLength >> 1 ? byte ^ 4 : byte));

describe('a verified read', () => {
  it('hands out the file’s bytes, in order, however the ranges come in', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.uint8Array({ minLength: 1, maxLength: 4_000 }),
        fc.option(fc.integer({ min: 100, max: 5_000 }), { nil: undefined }),
        fc.integer({ min: 1, max: 8 }),
        fc.infiniteStream(fc.integer({ min: 0, max: 3 })),
        async (data, chunkBytes, parallel, delays) => {
          const version = await publish(data, chunkBytes);
          let [open, most] = [0, 0];
          const slow = spoiled(async (bytes) => {
            most = Math.max(most, ++open);
            await sleep(delays.next().value);
            open--;
            return bytes;
          });
          const out: number[] = [];
          await readVerified(slow, version, {
            parallel,
            onChunk: (chunk, start) => {
              expect(start).toBe(out.length);
              out.push(...chunk);
            },
          });
          expect(out).toEqual([...data]);
          expect(most).toBeLessThanOrEqual(parallel);
        },
      ),
      { numRuns: 60 },
    );
  });

  it('reads a chunk that is wrong once more, and goes on', async () => {
    const data = randomBytes(1_000);
    const version = await publish(data, 100);
    let readings = 0;
    const once = spoiled((bytes, start) => (start === 300 && readings++ === 0 ? flipped(bytes) : bytes));
    expect(await readExpert(once, version)).toEqual(new Uint8Array(data));
    expect(readings).toBe(2);
  });

  it('hands out nothing of a chunk that is wrong twice, nor of those behind it', async () => {
    const version = await publish(randomBytes(1_000), 100);
    const starts: number[] = [];
    const altered = spoiled((bytes, start) => (start === 300 ? flipped(bytes) : bytes));
    await expect(readVerified(altered, version, { onChunk: (_, start) => void starts.push(start) })).rejects.toThrow(
      /bytes 300–400 have digest .* in two readings: altered; publish it again/,
    );
    expect(starts).toEqual([0, 100, 200]);
  });

  it('hands out nothing of a file without chunk hashes before all of it is right', async () => {
    const version = await publish(randomBytes(1_000), undefined);
    const starts: number[] = [];
    const onChunk = (_: Uint8Array, start: number) => void starts.push(start);
    await expect(readVerified(spoiled(flipped), version, { onChunk })).rejects.toThrow(/has digest .*altered/);
    expect(starts).toEqual([]);
    await readVerified(store, version, { onChunk });
    expect(starts).toEqual([0]);
  });

  it('refuses a file without chunk hashes that has another digest', async () => {
    const version = { ...(await publish(randomBytes(1_000), undefined)), digest: 'a'.repeat(64) as Digest };
    await expect(readExpert(store, version)).rejects.toThrow(/has digest .*, the catalogue says aaaa/);
  });

  it('refuses another size before it takes memory for it', async () => {
    const version = await publish(randomBytes(1_000), 100);
    const huge = { ...version, bytes: 2 ** 52 };
    await expect(readExpert(store, huge)).rejects.toThrow(/has 1000 bytes, the catalogue says 4503599627370496/);
    await store.write(version.key, randomBytes(950));
    await expect(readExpert(store, version)).rejects.toThrow(/has 950 bytes, the catalogue says 1000/);
    await expect(readVerified(store, version, { onChunk: () => undefined })).rejects.toThrow(/has 950 bytes/);
    await store.delete(version.key);
    await expect(readExpert(store, version)).rejects.toThrow(ObjectMissing);
  });

  it('ends with the signal’s reason, and with it every transfer', async () => {
    const version = await publish(randomBytes(1_000), 100);
    const controller = new AbortController();
    const signals: AbortSignal[] = [];
    const stuck = interceptStore(store, {
      read: (_key, { signal } = {}) =>
        new Promise((_, reject) => {
          if (signal === undefined) return;
          signals.push(signal);
          signal.addEventListener('abort', () => reject(signal.reason));
        }),
    });
    const reading = readVerified(stuck, version, { parallel: 3, signal: controller.signal, onChunk: () => undefined });
    setTimeout(() => controller.abort(new Error('left')));
    await expect(reading).rejects.toThrow(/^left$/);
    expect(signals.map(({ aborted }) => aborted)).toEqual([true, true, true]);
  });

  it('stops the other ranges when who takes the chunks fails', async () => {
    const version = await publish(randomBytes(1_000), 100);
    let reads = 0;
    const counted = spoiled((bytes) => {
      reads++;
      return bytes;
    });
    const onChunk = () => {
      throw new Error('no room');
    };
    await expect(readVerified(counted, version, { parallel: 2, onChunk })).rejects.toThrow('no room');
    expect(reads).toBeLessThanOrEqual(3);
  });

  it('gets through a server that fails, stalls, cuts and flips', async () => {
    const data = randomBytes(400_000);
    const version = await publish(data, 10_000);
    const server = await serveStore(store);
    const kinds: Fault[] = [{ status: 500 }, 'reset', 'stall', 'cut half-way', 'stall half-way', { spoil: flipBit }];
    const seen = new Set<string>();
    // Each range is spoiled once, each in another way.
    const proxy = await startFaultyProxy(server.url, ({ range = 'head' }) => {
      if (seen.has(range)) return undefined;
      seen.add(range);
      return kinds[seen.size % kinds.length];
    });
    try {
      const web = new HttpStore(proxy.url, { ...RETRY_DEFAULTS, baseDelayMs: 1, idleMs: 200 });
      const found = createHash('sha256')
        .update(await readExpert(web, version, { parallel: 8 }))
        .digest('hex');
      expect(found).toBe(version.digest);
      expect(seen.size).toBe(41);
    } finally {
      await proxy.close();
      await server.close();
    }
  });
});
