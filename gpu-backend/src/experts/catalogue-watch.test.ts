import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { CATALOGUE_KEY, type Catalogue, type Digest } from '@signpost/contracts';
import {
  type CatalogueKeys,
  type ObjectStore,
  openStore,
  type ReadOptions,
  readSigningKey,
  resignCatalogue,
  type StoredObject,
  updateCatalogue,
  writeKeyPair,
} from '@signpost/store';
import { type Fault, interceptStore, serveStore, startFaultyProxy } from '@signpost/store/testing';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { CatalogueWatch } from './catalogue-watch.ts';
import { SeenRevision } from './seen-revision.ts';

let dir: string;
let store: ObjectStore;
let problems: string[];
let watch: CatalogueWatch;
const onProblem = (problem: string) => void problems.push(problem);
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'signpost-catalogue-'));
  store = openStore(dir);
  problems = [];
  watch = new CatalogueWatch(store, { onProblem });
  vi.useFakeTimers({ toFake: ['performance'] });
});
afterEach(async () => {
  vi.useRealTimers();
  await rm(dir, { recursive: true, force: true });
});

const digestOf = (letter: string) => letter.repeat(64) as Digest;
const publish = (letter: string, keys: CatalogueKeys = {}) =>
  updateCatalogue(
    store,
    (catalogue): Catalogue => {
      const version = {
        digest: digestOf(letter),
        base: digestOf('b'),
        key: `experts/${letter}`,
        bytes: 1,
        method: 'sign',
        published: '2026-01-01T00:00:00Z',
      };
      const channels = { stable: [{ digest: version.digest, weight: 1 }] };
      const versions = [...(catalogue.experts.math?.versions ?? []), version];
      return { ...catalogue, experts: { ...catalogue.experts, math: { versions, channels } } };
    },
    keys,
  );
const current = async () => (await watch.resolve('math'))[0]?.version.digest;
const breakCatalogue = () => store.write(CATALOGUE_KEY, new TextEncoder().encode('{"format": 9}'));

describe('the catalogue', () => {
  it('shows a new version within two seconds', async () => {
    await publish('1');
    expect(await current()).toBe(digestOf('1'));
    await publish('2');
    vi.advanceTimersByTime(2_000);
    expect(await current()).toBe(digestOf('2'));
  });

  it('stays the last good one when it is broken, and says so', async () => {
    await publish('1');
    await current();
    await breakCatalogue();
    vi.advanceTimersByTime(2_000);
    expect(await current()).toBe(digestOf('1'));
    expect(problems).toEqual([expect.stringContaining(CATALOGUE_KEY)]);
  });

  it('that was never good is our fault, not the app’s, and stops no base traffic', async () => {
    await breakCatalogue();
    await expect(watch.resolve('math')).rejects.toMatchObject({ status: 503, code: 'catalogue_unavailable' });
    expect(await watch.resolve('base')).toEqual([]);
    await store.delete(CATALOGUE_KEY);
    await publish('1');
    expect(await current()).toBe(digestOf('1'));
  });

  it('that must be signed stays the last signed one when it is altered, stripped or signed by another', async () => {
    const keys = [];
    for (const name of ['ours', 'theirs']) {
      await writeKeyPair(join(dir, name));
      keys.push(await readSigningKey(join(dir, name)));
    }
    const [ours, theirs] = keys;
    if (ours === undefined || theirs === undefined) throw new Error('no keys');
    watch = new CatalogueWatch(store, { onProblem, trust: [ours.public] });
    await publish('1');
    await expect(watch.resolve('math')).rejects.toThrow(/is not signed/);
    await store.delete(CATALOGUE_KEY);
    await publish('2', { sign: ours });
    expect(await current()).toBe(digestOf('2'));
    const good = new TextDecoder().decode((await store.read(CATALOGUE_KEY)).data);
    const attacks = [
      () => store.write(CATALOGUE_KEY, new TextEncoder().encode(good.replaceAll(digestOf('2'), digestOf('3')))),
      () => store.write(CATALOGUE_KEY, new TextEncoder().encode(JSON.parse(good).payload)),
      () => resignCatalogue(store, theirs),
      () => store.delete(CATALOGUE_KEY),
    ];
    for (const attack of attacks) {
      await attack();
      vi.advanceTimersByTime(2_000);
      expect(await current()).toBe(digestOf('2'));
    }
    expect(problems).toEqual([
      expect.stringContaining('is not signed'),
      expect.stringContaining('altered'),
      expect.stringContaining('is not signed'),
      expect.stringContaining(`signed by key ${theirs.public.id}`),
      expect.stringContaining('has no catalogue.json'),
    ]);
  });

  it('that is older than one seen is refused though its signature is right, until there is a newer one', async () => {
    await writeKeyPair(join(dir, 'key'));
    const sign = await readSigningKey(join(dir, 'key'));
    watch = new CatalogueWatch(store, { onProblem, trust: [sign.public] });
    await publish('1', { sign });
    const older = (await store.read(CATALOGUE_KEY)).data;
    await publish('2', { sign });
    expect(await current()).toBe(digestOf('2'));
    await store.write(CATALOGUE_KEY, older);
    vi.advanceTimersByTime(2_000);
    expect(await current()).toBe(digestOf('2'));
    expect(problems).toEqual([expect.stringContaining('went back from revision 2 to 1')]);
    // Whoever publishes on top of the older copy is not believed either, until it is past what was seen.
    await publish('3', { sign });
    await publish('4', { sign });
    vi.advanceTimersByTime(2_000);
    expect(await current()).toBe(digestOf('4'));
    expect(problems).toHaveLength(1);
  });

  it('holds up nobody while the store is silent: requests go by the last good one, or are refused', async () => {
    await publish('1');
    let silent = false;
    let answer: () => void = () => undefined;
    const asked = vi.fn(
      (key: string, options?: ReadOptions) =>
        new Promise<StoredObject>((resolve, reject) => {
          answer = () => void store.read(key, options).then(resolve, reject);
          if (!silent) answer();
        }),
    );
    watch = new CatalogueWatch(interceptStore(store, { read: asked }), { onProblem });
    expect(await current()).toBe(digestOf('1'));
    await publish('2');
    silent = true;
    vi.advanceTimersByTime(2_000);
    const waits = current();
    vi.useRealTimers();
    expect(await waits).toBe(digestOf('1'));
    // Nobody waits for the same answer twice.
    for (let i = 0; i < 20; i++) expect(await current()).toBe(digestOf('1'));
    expect(asked).toHaveBeenCalledTimes(2);
    answer();
    await expect.poll(current).toBe(digestOf('2'));
    expect(problems).toEqual([]);
  });

  it.each<Fault>(['trickle', 'stall'])(
    'that a server gives us so slowly that it never ends (%s) is a problem after a while, and the last good one stays until it comes',
    async (fault) => {
      await publish('1');
      const server = await serveStore(store);
      let isSlow = false;
      const proxy = await startFaultyProxy(server.url, () => (isSlow ? fault : undefined));
      try {
        watch = new CatalogueWatch(openStore(proxy.url), { onProblem, readLimitMs: 1_000 });
        expect(await current()).toBe(digestOf('1'));
        await publish('2');
        vi.useRealTimers();
        isSlow = true;
        // Looked at as the region does, again and again.
        await expect
          .poll(async () => [await current(), problems.length > 0], { timeout: 15_000 })
          .toEqual([digestOf('1'), true]);
        expect(problems[0]).toMatch(/catalogue\.json was not in after 1000 ms$/);
        isSlow = false;
        await expect.poll(current, { timeout: 15_000 }).toBe(digestOf('2'));
      } finally {
        await proxy.close();
        await server.close();
      }
    },
    60_000,
  );

  it('that does not come at all is our fault soon enough to ask elsewhere', async () => {
    const silent = interceptStore(store, { read: () => new Promise(() => undefined) });
    watch = new CatalogueWatch(silent, { onProblem });
    vi.useFakeTimers();
    const refused = expect(watch.resolve('math')).rejects.toMatchObject({
      status: 503,
      code: 'catalogue_unavailable',
      message: expect.stringContaining('has not answered for 10 s'),
    });
    await vi.advanceTimersByTimeAsync(10_000);
    await refused;
  });

  it('that is older than one seen before a restart is refused, with an alarm, until there is a newer one', async () => {
    await writeKeyPair(join(dir, 'key'));
    const sign = await readSigningKey(join(dir, 'key'));
    const start = (url = store.url) => {
      const seen = new SeenRevision(join(dir, 'cache'), url);
      watch = new CatalogueWatch(store, { onProblem, trust: [sign.public], seen });
      return seen;
    };
    const { path } = start();
    await publish('1', { sign });
    const older = (await store.read(CATALOGUE_KEY)).data;
    await publish('2', { sign });
    const newest = (await store.read(CATALOGUE_KEY)).data;
    expect(await current()).toBe(digestOf('2'));
    expect(JSON.parse(await readFile(path, 'utf8'))).toEqual({ [store.url]: 2 });
    await store.write(CATALOGUE_KEY, older);
    start();
    await expect(watch.resolve('math')).rejects.toThrow(
      /went back from revision 2 to 1.*remove .*catalogue-revisions\.json/,
    );
    expect(problems).toEqual([expect.stringContaining('went back from revision 2 to 1')]);
    // What was seen in one store says nothing about another.
    start('file:///elsewhere');
    expect(await current()).toBe(digestOf('1'));
    start();
    await store.write(CATALOGUE_KEY, newest);
    expect(await current()).toBe(digestOf('2'));
    await writeFile(path, '{"half');
    start();
    await expect(watch.resolve('math')).rejects.toThrow(/catalogue-revisions\.json/);
  });

  it('from before revisions were kept is taken as revision 0', async () => {
    await publish('1');
    const { revision: _, ...old } = JSON.parse(new TextDecoder().decode((await store.read(CATALOGUE_KEY)).data));
    await store.write(CATALOGUE_KEY, new TextEncoder().encode(JSON.stringify(old)));
    expect((await watch.catalogue()).revision).toBe(0);
    expect((await publish('2')).revision).toBe(1);
    vi.advanceTimersByTime(2_000);
    expect(await current()).toBe(digestOf('2'));
  });
});
