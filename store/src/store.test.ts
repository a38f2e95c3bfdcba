import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Digest, sha256 } from '@signpost/contracts';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  ObjectMissing,
  type ObjectStore,
  openStore,
  readCatalogue,
  readExpert,
  updateCatalogue,
  WriteConflict,
} from './index.ts';

const text = (value: string) => new TextEncoder().encode(value);
const BASE = 'b'.repeat(64) as Digest;

let root: string;
let store: ObjectStore;
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'signpost-store-'));
  store = openStore(`file://${root}`);
});
afterEach(() => rm(root, { recursive: true }));

describe('a file store', () => {
  it('reads what was written, whole and in ranges', async () => {
    await store.write('a/b.bin', text('hello'));
    expect((await store.read('a/b.bin')).data).toEqual(text('hello'));
    expect((await store.read('a/b.bin', { start: 1, end: 3 })).data).toEqual(text('el'));
    await expect(store.read('a/b.bin', { start: 1, end: 9 })).rejects.toThrow(/lie outside a\/b\.bin, which has 5/);
    await expect(store.read('none')).rejects.toThrow(ObjectMissing);
    expect(await store.head('none')).toBeUndefined();
    expect(await store.list('a/')).toEqual(['a/b.bin']);
  });

  it('writes only where the condition holds', async () => {
    const first = await store.write('k', text('1'), { ifNoneMatch: '*' });
    await expect(store.write('k', text('2'), { ifNoneMatch: '*' })).rejects.toThrow(WriteConflict);
    const second = await store.write('k', text('2'), { ifMatch: first.etag });
    await expect(store.write('k', text('3'), { ifMatch: first.etag })).rejects.toThrow(WriteConflict);
    expect((await store.head('k'))?.etag).toBe(second.etag);
  });

  it('lets exactly one of many conditional writers win', async () => {
    const { etag } = await store.write('k', text('0'));
    const results = await Promise.allSettled(
      Array.from({ length: 20 }, (_, i) => store.write('k', text(`${i}`), { ifMatch: etag })),
    );
    expect(results.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
  });

  it('leaves the old object and no temporary file when a write fails half-way', async () => {
    await store.write('k', text('old'));
    const broken = async function* () {
      yield text('ne');
      throw new Error('link down');
    };
    await expect(store.write('k', broken())).rejects.toThrow('link down');
    expect((await store.read('k')).data).toEqual(text('old'));
    expect(await readdir(root)).toEqual(['k']);
  });

  it('takes over the lock of a process that is gone', async () => {
    await writeFile(join(root, 'k.lock'), '999999999');
    await store.write('k', text('1'), { ifNoneMatch: '*' });
    expect(await readdir(root)).toEqual(['k']);
  });

  it.each(['../x', '/x', 'a//b', '', 'a/../../x', '.hidden', 'x.tmp'])('refuses the key %j', async (key) => {
    await expect(store.write(key, text('x'))).rejects.toThrow(/is no object key/);
  });
});

describe('the catalogue in a store', () => {
  it('keeps the changes of all concurrent writers', async () => {
    const names = Array.from({ length: 8 }, (_, i) => `${i}`.repeat(64) as Digest);
    await Promise.all(
      names.map((digest) =>
        updateCatalogue(store, (catalogue) => ({
          ...catalogue,
          bases: { ...catalogue.bases, [digest]: { name: 'x' } },
        })),
      ),
    );
    expect(Object.keys((await readCatalogue(store)).catalogue.bases).sort()).toEqual(names);
  });

  it('is refused when it is not valid, by field', async () => {
    await store.write('catalogue.json', text('{"format":2}'));
    await expect(readCatalogue(store)).rejects.toThrow(/catalogue\.json: format/);
    await store.write('catalogue.json', text('{'));
    await expect(readCatalogue(store)).rejects.toThrow(/is not JSON/);
  });
});

describe('an expert in a store', () => {
  const version = async (data: Uint8Array) => {
    const digest = await sha256(data);
    return {
      digest,
      base: BASE,
      key: `experts/${digest}`,
      bytes: data.byteLength,
      method: 'row',
      published: '2026-01-01T00:00:00Z',
    };
  };

  it('is read when size and digest are right, and refused when truncated, altered or gone', async () => {
    const data = text('delta bytes');
    const expected = await version(data);
    await store.write(expected.key, data);
    expect(await readExpert(store, expected)).toEqual(data);
    await store.write(expected.key, text('delta byte'));
    await expect(readExpert(store, expected)).rejects.toThrow(/has 10 bytes, the catalogue says 11/);
    await store.write(expected.key, text('delta bytez'));
    await expect(readExpert(store, expected)).rejects.toThrow(/altered/);
    await store.delete(expected.key);
    await expect(readExpert(store, expected)).rejects.toThrow(ObjectMissing);
  });
});
