/**
 * Chunks in order, each right before it is handed out, whatever the store does.
 */
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
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
  type IntegrityCheck,
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
        fc.integer({ min: 1, max: 5_000 }),
        fc.infiniteStream(fc.integer({ min: 0, max: 3 })),
        async (data, chunkBytes, parallel, rangeBytes, delays) => {
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
            rangeBytes,
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

  it('reads a chunk that is wrong once more, and nothing but that', async () => {
    const data = randomBytes(1_000);
    const version = await publish(data, 100);
    const readings: [start: number, bytes: number][] = [];
    const flippedOnce = spoiled((bytes, start) => {
      readings.push([start, bytes.byteLength]);
      return start === 300 ? flipped(bytes) : bytes;
    });
    expect(await readExpert(flippedOnce, version, { rangeBytes: 300, parallel: 4 })).toEqual(new Uint8Array(data));
    // Its middle byte is the second chunk's.
    expect(readings.toSorted(([a], [b]) => a - b)).toEqual([
      [0, 300],
      [300, 300],
      [400, 100],
      [600, 300],
      [900, 100],
    ]);
  });

  it('hands out what has come of a range that is still coming in, and only what is right when its transfer begins anew', async () => {
    const data = randomBytes(1_000);
    const version = await publish(data, 100);
    const halt = new AbortController();
    const goOn = once(halt.signal, 'abort');
    const slow = interceptStore(store, {
      read: async (key: string, { range, parts }: ReadOptions = {}) => {
        const whole = data.subarray(range?.start, range?.end);
        if (parts === undefined) return { ...(await store.read(key, { range })), data: whole };
        const part = (i: number) => whole.slice(i * parts.bytes, (i + 1) * parts.bytes);
        parts.take(part(0), 0);
        parts.take(flipped(part(1)), parts.bytes);
        await goOn;
        for (let i = 0; i * parts.bytes < whole.byteLength; i++)
          parts.take(i === 0 ? flipped(part(0)) : part(i), i * 100);
        return { bytes: data.byteLength, etag: '', data: new Uint8Array() };
      },
    });
    const out: number[] = [];
    const reading = readVerified(slow, version, { rangeBytes: 500, onChunk: (chunk) => void out.push(...chunk) });
    await expect.poll(() => out.length).toBe(100);
    halt.abort();
    await reading;
    expect(out).toEqual([...data]);
  });

  it('hands out nothing of a chunk that is wrong twice, nor of those behind it', async () => {
    const version = await publish(randomBytes(1_000), 100);
    const starts: number[] = [];
    const altered = spoiled((bytes, start) => (start === 300 ? flipped(bytes) : bytes));
    const onChunk = (_: Uint8Array, start: number) => void starts.push(start);
    await expect(readVerified(altered, version, { rangeBytes: 100, onChunk })).rejects.toThrow(
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

  it('tells of each check that fails, also where the next reading mends it', async () => {
    const [whole, chunked] = [await publish(randomBytes(1_000), undefined), await publish(randomBytes(1_000), 100)];
    const failedOf = async (from: ObjectStore, version: ExpertVersion) => {
      const failed: IntegrityCheck[] = [];
      const onMismatch = (check: IntegrityCheck) => void failed.push(check);
      const options = { rangeBytes: 100, onChunk: () => undefined, onMismatch };
      const isRight = await readVerified(from, version, options).then(
        () => true,
        () => false,
      );
      return [isRight, ...failed];
    };
    let readings = 0;
    const mended = spoiled((data, start) => (start === 300 && readings++ === 0 ? flipped(data) : data));
    const altered = spoiled((data, start) => (start === 300 ? flipped(data) : data));
    expect(await failedOf(store, chunked)).toEqual([true]);
    expect(await failedOf(mended, chunked)).toEqual([true, 'chunk']);
    expect(await failedOf(altered, chunked)).toEqual([false, 'chunk', 'chunk']);
    expect(await failedOf(spoiled(flipped), whole)).toEqual([false, 'file']);
    // However many ranges see it.
    for (const version of [whole, chunked]) {
      await store.write(version.key, randomBytes(550));
      expect(await failedOf(store, version)).toEqual([false, 'size']);
      await store.delete(version.key);
      expect(await failedOf(store, version)).toEqual([false]);
    }
  });

  it('refuses another size before it takes memory for it', async () => {
    const data = randomBytes(1_000);
    const version = await publish(data, 100);
    const huge = { ...version, bytes: 2 ** 52 };
    await expect(readExpert(store, huge)).rejects.toThrow(/has 1000 bytes, the catalogue says 4503599627370496/);
    await store.write(version.key, randomBytes(950));
    await expect(readExpert(store, version)).rejects.toThrow(/has 950 bytes, the catalogue says 1000/);
    await expect(readVerified(store, version, { onChunk: () => undefined })).rejects.toThrow(/has 950 bytes/);
    await store.write(version.key, Buffer.concat([data, randomBytes(5)]));
    await expect(readVerified(store, version, { onChunk: () => undefined })).rejects.toThrow(/has 1005 bytes/);
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
    const reading = readVerified(stuck, version, {
      parallel: 3,
      rangeBytes: 100,
      signal: controller.signal,
      onChunk: () => undefined,
    });
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
    await expect(readVerified(counted, version, { parallel: 2, rangeBytes: 100, onChunk })).rejects.toThrow('no room');
    expect(reads).toBeLessThanOrEqual(3);
  });

  it('gets through a server that fails, stalls, cuts and flips', async () => {
    const data = randomBytes(400_000);
    const version = await publish(data, 10_000);
    const server = await serveStore(store);
    const kinds: Fault[] = [{ status: 500 }, 'reset', 'stall', 'cut half-way', 'stall half-way', { spoil: flipBit }];
    const seen = new Set<string>();
    // Each range of two chunks is spoiled once, each in another way.
    const isOfOne = (range: string) => {
      const [, start, last] = /(\d+)-(\d+)/.exec(range) ?? [];
      return Number(last) - Number(start) + 1 === 10_000;
    };
    const proxy = await startFaultyProxy(server.url, ({ range = 'head' }) => {
      if (seen.has(range) || isOfOne(range)) return undefined;
      seen.add(range);
      return kinds[seen.size % kinds.length];
    });
    try {
      const web = new HttpStore(proxy.url, { ...RETRY_DEFAULTS, baseDelayMs: 1, idleMs: 200 });
      const found = createHash('sha256')
        .update(await readExpert(web, version, { parallel: 8, rangeBytes: 25_000 }))
        .digest('hex');
      expect(found).toBe(version.digest);
      expect(seen.size).toBe(21);
    } finally {
      await proxy.close();
      await server.close();
    }
  });
});
