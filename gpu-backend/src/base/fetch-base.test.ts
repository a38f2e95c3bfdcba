/**
 * A base on its way into the cache: over every kind of store, through faults, across a kill, and where bytes are wrong.
 */
import { randomBytes } from 'node:crypto';
import { mkdtemp, open, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ApiError, type Catalogue } from '@signpost/contracts';
import { type ObjectStore, openStore } from '@signpost/store';
import { flipBit, interceptStore, STORE_KINDS, serveStore, startFaultyProxy } from '@signpost/store/testing';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { CachedBase } from './base-cache.ts';
import { type FetchBaseOptions, type FetchProgress, fetchBase } from './fetch-base.ts';
import { type PublishedFiles, publishFiles } from './fixtures.ts';

const CHUNK = 1000;
const files = {
  'model-00001-of-00002.safetensors': randomBytes(40 * CHUNK + 1),
  'model-00002-of-00002.safetensors': randomBytes(25 * CHUNK),
  'config.json': Buffer.from('{"hidden_size": 8}'),
  'empty.json': Buffer.alloc(0),
};
const [SHARD] = Object.keys(files) as ['model-00001-of-00002.safetensors'];

let dir: string;
let store: ObjectStore;
let published: PublishedFiles;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'signpost-fetch-base-'));
  store = openStore(join(dir, 'store'));
  published = await publishFiles(store, files, CHUNK);
});
/** What still writes in the folder. */
const keeping: Promise<unknown>[] = [];
afterEach(async () => {
  await Promise.all(keeping.splice(0));
  await rm(dir, { recursive: true });
});

interface Fetched extends CachedBase {
  readonly progress: readonly FetchProgress[];
  /** Resolves when the base is on the disk. */
  readonly kept: Promise<unknown>;
}

async function fetched(from: ObjectStore, options: Partial<FetchBaseOptions> = {}): Promise<Fetched> {
  const progress: FetchProgress[] = [];
  let onKept: (error?: unknown) => void = () => undefined;
  const kept = new Promise<unknown>((resolve) => {
    onKept = resolve;
  });
  const base = await fetchBase(from, {
    selector: 'demo',
    cacheDir: join(dir, 'cache'),
    catalogue: async () => published.catalogue,
    onProgress: (told) => progress.push(told),
    onFallback: (error) => {
      throw error;
    },
    onKept,
    ...options,
  });
  if (progress.length > 0) keeping.push(kept);
  return { ...base, progress, kept };
}

async function expectWhole({ dir: folder, digest }: CachedBase): Promise<void> {
  expect(digest).toBe(published.manifest.base);
  for (const [name, bytes] of Object.entries(files))
    expect(bytes.equals(await readFile(join(folder, name))), name).toBe(true);
}

const fetchedBytes = ({ progress }: Fetched) => progress.at(-1)?.fetchedBytes;
const TOTAL = Object.values(files).reduce((sum, { byteLength }) => sum + byteLength, 0);

describe.each(STORE_KINDS.filter((kind) => kind.isThere()))('from $name', ({ open: openHome }) => {
  it('comes whole, and is there without the store the next time', async () => {
    const home = await openHome();
    try {
      const own = openStore(home.url());
      published = await publishFiles(own, files, CHUNK);
      const first = await fetched(own);
      await expectWhole(first);
      expect(fetchedBytes(first)).toBe(TOTAL);
      expect(await first.kept).toBeUndefined();
      const second = await fetched(interceptStore(own, { read: () => Promise.reject(new Error('was read')) }));
      expect(second.progress).toEqual([]);
      await expectWhole(second);
    } finally {
      await home.close();
    }
  });
});

it('comes whole through a store that fails, cuts and garbles', async () => {
  const server = await serveStore(store);
  let requests = 0;
  const faults = [{ status: 503 }, 'cut half-way', 'reset', { spoil: (body: Buffer) => flipBit(body) }] as const;
  // The first answer to each fourth request is spoiled; a spoiled chunk is read twice at most.
  const spoiled = new Set<string>();
  const proxy = await startFaultyProxy(server.url, ({ method, url, range }) => {
    const key = `${url} ${range}`;
    if (method !== 'GET' || !url.startsWith('/bases/') || url.endsWith('.json') || spoiled.has(key)) return undefined;
    spoiled.add(key);
    return faults[requests++ % 8];
  });
  try {
    await expectWhole(await fetched(openStore(proxy.url)));
    expect(requests).toBeGreaterThan(60);
  } finally {
    await proxy.close();
    await server.close();
  }
});

describe('after a kill', () => {
  async function interruptedAfter(chunks: number): Promise<void> {
    const stop = new AbortController();
    let done = 0;
    const onProgress = () => {
      if (++done === chunks) stop.abort(new Error('killed'));
    };
    await expect(fetched(store, { signal: stop.signal, onProgress })).rejects.toThrow('killed');
  }

  it('only what is missing is fetched', async () => {
    await interruptedAfter(30);
    const rest = await fetched(store);
    await expectWhole(rest);
    expect(fetchedBytes(rest)).toBeLessThanOrEqual(TOTAL - 29 * CHUNK);
    expect(rest.progress.at(-1)?.bytes).toBe(TOTAL);
  });

  it('what was written wrong is fetched again', async () => {
    await interruptedAfter(60);
    const path = join(dir, 'cache', published.manifestDigest, SHARD);
    const file = await open(path, 'r+');
    await file.write(Buffer.alloc(3 * CHUNK), 0, 3 * CHUNK, 0);
    await file.close();
    await expectWhole(await fetched(store));
  });
});

describe('what is altered', () => {
  it('in the store is named, and nothing of it is taken for whole', async () => {
    const { key } = published.manifest.files[0] ?? { key: '' };
    const [original] = [files[SHARD]];
    await store.write(key, flipBit(original));
    await expect(fetched(store)).rejects.toThrow(
      /\(model-00001-of-00002.safetensors\): bytes 20000–21000 have digest .*, in two readings: altered; publish the base again/,
    );
    await store.write(key, original);
    await expectWhole(await fetched(store));
  });

  it('in the list of files is refused', async () => {
    const { key } = published.catalogue.bases[published.manifest.base]?.manifest ?? { key: '' };
    await store.write(key, flipBit(Buffer.from((await store.read(key)).data)));
    await expect(fetched(store)).rejects.toThrow(/list.json has digest .*altered; publish the base again/);
  });

  it('in the cache’s small files is mended', async () => {
    const first = await fetched(store);
    await first.kept;
    const file = await open(join(first.dir, 'config.json'), 'r+');
    await file.write('[');
    await file.close();
    const second = await fetched(store);
    await expectWhole(second);
    expect(fetchedBytes(second)).toBe(files['config.json'].byteLength);
  });
});

describe('without a catalogue', () => {
  const gone = async (): Promise<Catalogue> => {
    throw new ApiError('server_error', 'catalogue_unavailable', 'the store is gone', { status: 503 });
  };

  it('the one base in the cache is used', async () => {
    const first = await fetched(store);
    await first.kept;
    const told: unknown[] = [];
    const second = await fetched(store, { catalogue: gone, onFallback: (error) => told.push(error) });
    await expectWhole(second);
    expect(told).toHaveLength(1);
  });

  it('there is none where the cache has none', async () => {
    await expect(fetched(store, { catalogue: gone })).rejects.toThrow('the store is gone');
  });
});

it('says what is wrong with a name, and with a base whose files are elsewhere', async () => {
  await expect(fetched(store, { selector: 'other' })).rejects.toThrow(
    /the catalogue has no base "other"; known: demo \([0-9a-f]{12}\); publish one/,
  );
  const { base } = published.manifest;
  const named: Catalogue = { ...published.catalogue, bases: { [base]: { name: 'demo' } } };
  await expect(fetched(store, { selector: '', catalogue: async () => named })).rejects.toThrow(
    /names the base demo and hasn't its files: signpost-packer publish-base DIR/,
  );
  const two = { ...named.bases, [base.replace(/^./, (digit) => (digit === '0' ? '1' : '0'))]: { name: 'other' } };
  const several: Catalogue = { ...published.catalogue, bases: two as Catalogue['bases'] };
  await expect(fetched(store, { selector: '', catalogue: async () => several })).rejects.toThrow(
    /several bases: .*say which by digest/,
  );
});
