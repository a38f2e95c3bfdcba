/**
 * Publishing what is large, damaged, changing or not allowed. Publishers at once: see gc.test.ts.
 */
import { createHash } from 'node:crypto';
import { mkdtemp, readFile, rm, stat, truncate } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  type ObjectStore,
  openStore,
  readCatalogue,
  readExpert,
  readSigningKey,
  S3Store,
  updateCatalogue,
  writeKeyPair,
} from '@signpost/store';
import { interceptStore, openMemoryS3, type S3RequestInfo, TEST_BUCKET } from '@signpost/store/testing';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { publish } from './publish.ts';
import { writeDelta } from './testing.ts';

let dir: string;
let store: ObjectStore;
let file: string;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'signpost-publish-'));
  store = openStore(join(dir, 'store'));
  file = await writeDelta(join(dir, 'delta'), 1);
});
afterEach(() => rm(dir, { recursive: true }));

describe('publishing', () => {
  it('names the object by its digest, and twice is once', async () => {
    const first = await publish(store, file, { name: 'math', baseName: 'demo' });
    const { catalogue } = await readCatalogue(store);
    expect(await readExpert(store, first.version)).toEqual(new Uint8Array(await readFile(file)));
    expect(catalogue.bases[first.version.base]?.name).toBe('demo');
    expect(await publish(store, file, { name: 'math' })).toEqual(first);
    expect((await readCatalogue(store)).catalogue).toEqual(catalogue);
  });

  it('tells the hashes of the file’s chunks, also of a version that had none', async () => {
    const { version } = await publish(store, file, { name: 'math', chunkBytes: 100 });
    const bytes = await readFile(file);
    const chunks = Array.from({ length: Math.ceil(bytes.byteLength / 100) }, (_, i) =>
      bytes.subarray(100 * i, 100 * i + 100),
    );
    expect(chunks.length).toBeGreaterThan(3);
    const hashes = chunks.map((chunk) => createHash('sha256').update(chunk).digest());
    expect(version.chunks).toEqual({ bytes: 100, sha256: Buffer.concat(hashes).toString('base64') });
    await updateCatalogue(store, ({ experts, ...rest }) => {
      const { chunks: _, ...older } = version;
      return { ...rest, experts: { math: { versions: [older], channels: experts.math?.channels ?? {} } } };
    });
    expect(await publish(store, file, { name: 'math' })).toMatchObject({
      version: { published: version.published, key: version.key, chunks: { bytes: 2 ** 18 } },
    });
    const { catalogue } = await readCatalogue(store);
    expect(catalogue.experts.math?.versions).toHaveLength(1);
    expect(catalogue.experts.math?.versions[0]?.chunks?.bytes).toBe(2 ** 18);
  });

  it('mends an object that was damaged', async () => {
    const { version } = await publish(store, file, { name: 'math' });
    const object = join(dir, 'store', version.key);
    await truncate(object, 10);
    await publish(store, file, { name: 'math' });
    await readExpert(store, version);
    await writeDelta(object, 2);
    await publish(store, file, { name: 'math' });
    await readExpert(store, version);
  });

  it('refuses what is no delta file, a part of one, or badly named', async () => {
    const part = join(dir, 'part');
    await writeDelta(part, 1);
    await truncate(part, (await stat(part)).size - 1);
    await expect(publish(store, part)).rejects.toThrow(/part: truncated/);
    await expect(publish(store, join(dir, 'none'))).rejects.toThrow(/none: ENOENT/);
    await expect(publish(store, file, { name: 'Math!' })).rejects.toThrow(/expert name/);
    await expect(publish(store, file, { name: 'math', channel: 'a b' })).rejects.toThrow(/channel "a b"/);
  });

  it('publishes nothing of a file that changes meanwhile', async () => {
    // After it was hashed, before it is sent.
    const late = interceptStore(store, {
      head: async () => {
        await writeDelta(file, 2);
        return undefined;
      },
    });
    await expect(publish(late, file, { name: 'math' })).rejects.toThrow(/changed while it was read/);
    expect(await store.list('')).toEqual([]);
  });

  it('fails before the upload where the catalogue is signed and there is no key', async () => {
    await writeKeyPair(join(dir, 'key'));
    const sign = await readSigningKey(join(dir, 'key'));
    await publish(store, file, { name: 'math', sign });
    const other = await writeDelta(join(dir, 'other'), 2);
    await expect(publish(store, other, { name: 'math' })).rejects.toThrow(/is signed by key/);
    expect(await store.list('experts/')).toHaveLength(1);
  });
});

describe('publishing to S3', () => {
  const PART = 5 * 2 ** 20;

  it('resumes an upload that was interrupted, in parts', async () => {
    const requests: S3RequestInfo[] = [];
    const home = await openMemoryS3({ onRequest: (request) => void requests.push(request) as undefined });
    try {
      const large = await writeDelta(join(dir, 'large'), 3, 6 * PART);
      const bucket = new S3Store(TEST_BUCKET, 'p', { partBytes: PART });
      const controller = new AbortController();
      const onProgress = (read: number, total: number) => {
        if (read > total * 0.8) controller.abort(new Error('interrupted'));
      };
      await expect(publish(bucket, large, { name: 'math', onProgress, signal: controller.signal })).rejects.toThrow(
        'interrupted',
      );
      const sent = () => requests.filter(({ method, query }) => method === 'PUT' && query.has('partNumber')).length;
      const before = sent();
      expect(before).toBeGreaterThan(0);
      expect(await bucket.list('')).toEqual([]);
      const { version } = await publish(bucket, large, { name: 'math' });
      expect(sent()).toBe(7);
      await readExpert(bucket, version);
      expect(Math.max(...requests.map(({ bytes }) => bytes))).toBeLessThanOrEqual(PART);
    } finally {
      await home.close();
    }
  });
});
