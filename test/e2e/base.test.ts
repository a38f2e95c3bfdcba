/**
 * Regions without a base of their own: published with the packer, fetched from the store, checked, kept, mended.
 */
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdtemp, open, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { prepareDemoStore } from '@signpost/demo';
import { startBackend } from '@signpost/gpu-backend';
import { publishBase } from '@signpost/packer';
import { type ObjectStore, openStore, readCatalogue } from '@signpost/store';
import { serveStore } from '@signpost/store/testing';
import { afterAll, beforeAll, expect, it } from 'vitest';

const BASE = join(import.meta.dirname, '../../models/demo/base');
const KEPT = 'signpost-manifest.json';

let state: string;
let store: ObjectStore;
beforeAll(async () => {
  state = await mkdtemp(join(tmpdir(), 'signpost-base-'));
  store = openStore((await prepareDemoStore(state)).url);
});
afterAll(() => rm(state, { recursive: true, force: true }));

async function region(url: string, log: string[] = []) {
  return startBackend({
    base: 'store:',
    baseCache: join(state, 'cache'),
    store: url,
    region: 'test',
    port: 0,
    slots: 1,
    kvTokens: 512,
    onLog: (line) => log.push(line),
  });
}

async function answers(url: string, model: string): Promise<void> {
  const response = await fetch(`${url}/v1/completions`, {
    method: 'POST',
    body: JSON.stringify({ model, prompt: 'Once upon a time', max_tokens: 2 }),
  });
  expect(response.status).toBe(200);
}

async function cacheFolder(): Promise<string> {
  const [only = ''] = await readdir(join(state, 'cache'));
  return join(state, 'cache', only);
}

it('a published base is what experts go on, and twice is once', async () => {
  const before = (await readCatalogue(store)).catalogue;
  const published = await publishBase(store, BASE);
  const { catalogue } = await readCatalogue(store);
  expect(Object.keys(catalogue.bases)).toEqual(Object.keys(before.bases));
  expect(catalogue.bases[published.digest]).toEqual({
    name: before.bases[published.digest]?.name,
    manifest: published.manifest,
  });
  const listed = await store.list('bases/');
  expect(listed.length).toBe(published.files + 1);
  expect(await publishBase(store, BASE)).toEqual(published);
  expect(await store.list('bases/')).toEqual(listed);
  for (const { key } of listed) {
    const { data } = await store.read(key);
    expect(key).toMatch(new RegExp(`^bases/${createHash('sha256').update(data).digest('hex')}(\\.json)?$`));
  }
  // Named anew where that is asked for.
  expect((await publishBase(store, BASE, { name: 'small' })).name).toBe('small');
});

it('a region fetches it, answers, and starts again while its store is gone', async () => {
  const server = await serveStore(store);
  const log: string[] = [];
  const first = await region(server.url, log);
  await answers(first.url, 'base');
  await answers(first.url, 'math');
  await expect.poll(async () => existsSync(join(await cacheFolder(), KEPT))).toBe(true);
  await first.close();
  expect(log.filter((line) => line.includes('fetching the base')).length).toBeGreaterThan(0);
  await server.close();
  const second = await region(server.url, log);
  await answers(second.url, 'base');
  await second.close();
  expect(log.filter((line) => line.includes("the cache's base is used"))).toHaveLength(1);
}, 60_000);

it('altered weights are never served, and the next start mends them', async () => {
  const folder = await cacheFolder();
  const file = await open(join(folder, 'model.safetensors'), 'r+');
  await file.write(Buffer.of(1, 2, 3, 4), 0, 4, (await file.stat()).size - 100);
  await file.close();
  await expect(region(store.url)).rejects.toThrow(/was altered: it is base .*start again/);
  const mended = await region(store.url);
  await answers(mended.url, 'base');
  await expect.poll(() => existsSync(join(folder, KEPT))).toBe(true);
  await mended.close();
});

it('says that it needs a folder to fetch into', async () => {
  await expect(startBackend({ base: 'store:demo', store: store.url, region: 'test', port: 0 })).rejects.toThrow(
    /--base store:demo is fetched from the store, and must be kept somewhere: set --base-cache/,
  );
});
