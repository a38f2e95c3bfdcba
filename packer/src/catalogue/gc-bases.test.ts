/**
 * Garbage collection among the objects that bases consist of.
 */
import { appendFile, cp, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { baseManifestSchema } from '@signpost/contracts';
import { type ObjectStore, openStore, readCatalogue } from '@signpost/store';
import { flipBit, interceptStore } from '@signpost/store/testing';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { gc, planGc } from './gc.ts';
import { publish } from './publish.ts';
import { type PublishedBase, publishBase } from './publish-base.ts';
import { writeDelta } from './testing.ts';

const DAY = 86_400_000;
const BASE = join(import.meta.dirname, '../../../test/golden/merge/base');

let dir: string;
let checkpoint: string;
let store: ObjectStore;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'signpost-gc-bases-'));
  checkpoint = join(dir, 'base');
  await cp(BASE, checkpoint, { recursive: true });
  store = openStore(join(dir, 'store'));
});
afterEach(() => rm(dir, { recursive: true }));

const later = (ms: number) => new Date(Date.now() + ms);
const keysIn = async () => (await store.list('bases/')).map(({ key }) => key).sort();

/** The manifest and the files that it lists. */
async function keysOf({ manifest }: PublishedBase): Promise<string[]> {
  const { data } = await store.read(manifest.key);
  const { files } = baseManifestSchema.parse(JSON.parse(new TextDecoder().decode(data)));
  return [manifest.key, ...files.map(({ key }) => key)].sort();
}

/** The same tensors with another config beside them. */
async function publishedAgain(): Promise<{ readonly before: string[]; readonly after: string[] }> {
  const before = await keysOf(await publishBase(store, checkpoint));
  await appendFile(join(checkpoint, 'config.json'), '\n');
  return { before, after: await keysOf(await publishBase(store, checkpoint)) };
}

it('what a base had before it was published again goes, when it is old enough, and nothing else', async () => {
  const { before, after } = await publishedAgain();
  await publish(store, await writeDelta(join(dir, 'delta'), 1), { name: 'math' });
  const garbage = before.filter((key) => !after.includes(key));
  expect(garbage).toHaveLength(2);
  expect((await gc(store, { graceMs: 0 })).objects).toEqual([]);
  expect((await gc(store, { graceMs: 7 * DAY, now: later(6 * DAY) })).objects).toEqual([]);
  const planned = await planGc(store, { graceMs: 7 * DAY, now: later(8 * DAY) });
  expect(planned.objects.map(({ key }) => key).sort()).toEqual(garbage);
  expect(await keysIn()).toEqual([...new Set([...before, ...after])].sort());
  expect((await gc(store, { graceMs: 7 * DAY, now: later(8 * DAY) })).objects).toEqual(planned.objects);
  expect(await keysIn()).toEqual(after);
});

it('what is published again meanwhile is there when the catalogue names it', async () => {
  await publishedAgain();
  await cp(BASE, checkpoint, { recursive: true });
  // Between the publisher's look at its objects and its change of the catalogue, all of gc happens.
  let isCollected = false;
  const racing = interceptStore(store, {
    head: async (key) => {
      const found = await store.head(key);
      if (key.endsWith('.json') && found !== undefined && !isCollected) {
        isCollected = true;
        expect((await gc(store, { graceMs: 0, now: later(2 * DAY) })).objects).toHaveLength(2);
      }
      return found;
    },
  });
  const keys = await keysOf(await publishBase(racing, checkpoint));
  expect(isCollected).toBe(true);
  for (const key of keys) expect(await store.head(key), key).toBeDefined();
  const { catalogue } = await readCatalogue(store);
  expect(Object.values(catalogue.bases).map(({ manifest }) => manifest?.key)).toEqual([
    keys.find((key) => key.endsWith('.json')),
  ]);
});

it('a base that comes meanwhile keeps everything', async () => {
  await publishedAgain();
  const before = await keysIn();
  let isFirst = true;
  const racing = interceptStore(store, {
    read: async (key, options) => {
      const read = await store.read(key, options);
      if (key.startsWith('bases/') && isFirst) {
        isFirst = false;
        await appendFile(join(checkpoint, 'config.json'), '\n');
        await publishBase(store, checkpoint);
      }
      return read;
    },
  });
  expect((await gc(racing, { graceMs: 0, now: later(2 * DAY) })).objects).toEqual([]);
  expect(await keysIn()).toEqual(expect.arrayContaining(before));
});

it('nothing is removed while nobody can say what a base consists of', async () => {
  const { before } = await publishedAgain();
  const { catalogue } = await readCatalogue(store);
  const [{ manifest } = { manifest: undefined }] = Object.values(catalogue.bases);
  const key = manifest?.key ?? '';
  await store.write(key, flipBit(Buffer.from((await store.read(key)).data)));
  await expect(gc(store, { graceMs: 0, now: later(9 * DAY) })).rejects.toThrow(
    /the list of files of base base, was altered/,
  );
  await store.delete(key);
  await expect(gc(store, { graceMs: 0, now: later(9 * DAY) })).rejects.toThrow();
  expect(await keysIn()).toEqual(expect.arrayContaining(before));
});
