/**
 * What every store promises, over each kind of store.
 */
import type { Digest } from '@signpost/contracts';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { ObjectMissing, type ObjectStore, openStore, readCatalogue, updateCatalogue, WriteConflict } from './index.ts';
import { STORE_KINDS, type StoreHome } from './testing/index.ts';

const text = (value: string) => new TextEncoder().encode(value);
const keys = async (store: ObjectStore, prefix: string) => (await store.list(prefix)).map(({ key }) => key);

describe.each(STORE_KINDS)('a store in $name', ({ isThere, open }) => {
  if (!isThere()) {
    it.skip('is not tested here');
    return;
  }
  let home: StoreHome;
  let store: ObjectStore;
  beforeAll(async () => {
    home = await open();
  });
  afterAll(() => home.close());
  beforeEach(() => {
    store = openStore(home.url());
  });

  it('reads what was written, whole and in ranges', async () => {
    const { etag, bytes } = await store.write('a/b.bin', text('hello'));
    expect(bytes).toBe(5);
    expect(await store.read('a/b.bin')).toEqual({ bytes: 5, etag, data: text('hello') });
    expect(await store.read('a/b.bin', { range: { start: 1, end: 3 } })).toEqual({ bytes: 5, etag, data: text('el') });
    expect((await store.read('a/b.bin', { range: { start: 2, end: 2 } })).data).toEqual(text(''));
    expect(await store.head('a/b.bin')).toEqual({ bytes: 5, etag });
    for (const range of [
      { start: 1, end: 9 },
      { start: 3, end: 2 },
      { start: 9, end: 10 },
    ])
      await expect(store.read('a/b.bin', { range })).rejects.toThrow(/lie outside a\/b\.bin, which has 5/);
  });

  it('has no object that nobody wrote, or that was deleted', async () => {
    await store.write('k', text('1'));
    await store.delete('k');
    await store.delete('k');
    for (const key of ['k', 'none']) {
      await expect(store.read(key)).rejects.toThrow(ObjectMissing);
      await expect(store.read(key, { range: { start: 0, end: 1 } })).rejects.toThrow(ObjectMissing);
      expect(await store.head(key)).toBeUndefined();
    }
  });

  it('takes a stream, and an object of no bytes', async () => {
    const stream = async function* () {
      yield text('hel');
      yield text('lo');
    };
    await store.write('stream', stream());
    expect((await store.read('stream')).data).toEqual(text('hello'));
    await store.write('empty', new Uint8Array());
    expect((await store.read('empty')).data).toEqual(new Uint8Array());
  });

  it('writes only where the condition holds', async () => {
    await expect(store.write('k', text('0'), { ifMatch: '"0"' })).rejects.toThrow(WriteConflict);
    const first = await store.write('k', text('1'), { ifNoneMatch: '*' });
    await expect(store.write('k', text('2'), { ifNoneMatch: '*' })).rejects.toThrow(WriteConflict);
    const second = await store.write('k', text('2'), { ifMatch: first.etag });
    await expect(store.write('k', text('3'), { ifMatch: first.etag })).rejects.toThrow(WriteConflict);
    expect((await store.head('k'))?.etag).toBe(second.etag);
    expect((await store.read('k')).data).toEqual(text('2'));
  });

  it('lets exactly one of many conditional writers win', async () => {
    const { etag } = await store.write('k', text('before'));
    for (const condition of [{ ifMatch: etag }, { ifNoneMatch: '*' }] as const) {
      const key = 'ifMatch' in condition ? 'k' : 'new';
      const results = await Promise.allSettled(
        Array.from({ length: 12 }, (_, i) => store.write(key, text(`${i}`), condition)),
      );
      expect(results.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
      for (const result of results)
        if (result.status === 'rejected') expect(result.reason).toBeInstanceOf(WriteConflict);
    }
  });

  it('keeps the old object when a write fails half-way', async () => {
    await store.write('k', text('old'));
    const broken = async function* () {
      yield text('ne');
      throw new Error('link down');
    };
    await expect(store.write('k', broken())).rejects.toThrow(/^link down$/);
    expect((await store.read('k')).data).toEqual(text('old'));
    expect(await keys(store, '')).toEqual(['k']);
  });

  it('lists by prefix, in order, with size and age, page after page', async () => {
    const started = Date.now();
    const names = Array.from({ length: 8 }, (_, i) => `experts/${i}`);
    for (const key of [...names].reverse()) await store.write(key, text(key));
    await store.write('other', text('x'));
    expect(await keys(store, 'experts/')).toEqual(names);
    expect(await keys(store, 'experts/3')).toEqual(['experts/3']);
    expect(await keys(store, 'none')).toEqual([]);
    for (const { bytes, modified } of await store.list('experts/')) {
      expect(bytes).toBe(9);
      // Whole seconds, in S3.
      expect(Math.abs(modified.getTime() - started)).toBeLessThan(60_000);
    }
  });

  it.each(['../x', '/x', 'a//b', '', 'a/../../x', '.hidden', 'a b', 'ü'])('refuses the key %j', async (key) => {
    await expect(store.write(key, text('x'))).rejects.toThrow(/is no object key/);
  });

  it('keeps the catalogue changes of all concurrent writers', async () => {
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
});
