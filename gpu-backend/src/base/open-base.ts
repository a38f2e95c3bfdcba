/**
 * Where a region's base is: a folder that somebody put there, or one that the region fetches from its store.
 */
import { type Catalogue, type Digest, Problem } from '@signpost/contracts';
import { openCheckpoint } from '@signpost/engine';
import type { ObjectStore } from '@signpost/store';
import type { Logger } from 'pino';
import type { RegionSettings } from '../options.ts';
import { BaseCache } from './base-cache.ts';
import { type FetchProgress, fetchBase, STORED_BASE } from './fetch-base.ts';

export interface OpenBase {
  /** Checkpoint folder. */
  readonly dir: string;
  /** What is in it. Being computed: it reads every byte, and is best begun before anything else. */
  readonly digest: Promise<Digest>;
  /** @throws Problem when what was loaded from the folder isn't what was asked for. */
  check(loaded: Digest): Promise<void>;
}

/** @throws Problem as `fetchBase`, or when there is no folder to fetch into. */
export async function openBase(
  { base, baseCache }: RegionSettings,
  parts: {
    readonly store: ObjectStore;
    readonly catalogue: { readonly catalogue: () => Promise<Catalogue> };
    readonly log: Logger;
  },
): Promise<OpenBase> {
  if (!base.startsWith(STORED_BASE)) return { dir: base, digest: digestOf(base), check: async () => undefined };
  if (baseCache === undefined)
    throw new Problem(
      `--base ${base} is fetched from the store, and must be kept somewhere: set --base-cache to a folder`,
    );
  const { store, catalogue, log } = parts;
  const started = performance.now();
  const tell = tenths((progress) => log.info(progress, 'fetching the base'));
  const cached = await fetchBase(store, {
    selector: base.slice(STORED_BASE.length),
    cacheDir: baseCache,
    catalogue: () => catalogue.catalogue(),
    onProgress: tell,
    onFallback: (error) => log.warn({ err: error }, "the catalogue can't be read; the cache's base is used"),
    onKept(error) {
      if (error === undefined) log.info({ dir: baseCache }, 'the base is kept');
      else log.warn({ err: error, dir: baseCache }, "the base can't be kept; the next start checks what is there");
    },
  });
  log.info(
    { base: cached.digest, dir: cached.dir, fetchMs: Math.round(performance.now() - started) },
    'the base is here',
  );
  return {
    dir: cached.dir,
    // Each chunk of what was fetched just now has been hashed.
    digest: cached.isFetched ? Promise.resolve(cached.digest) : digestOf(cached.dir),
    async check(loaded) {
      if (loaded === cached.digest) return;
      await new BaseCache(baseCache).doubt(cached);
      throw new Problem(
        `${cached.dir} was altered: it is base ${loaded} now, expected ${cached.digest}; start again, which fetches what is wrong anew`,
      );
    },
  };
}

function digestOf(dir: string): Promise<Digest> {
  const digest = openCheckpoint(dir).then((checkpoint) => checkpoint.digest());
  // Whoever waits for it says what is wrong.
  digest.catch(() => undefined);
  return digest;
}

/** Tells every tenth of the way, with how fast it goes. */
function tenths(tell: (progress: FetchProgress & { percent: number; bytesPerSecond: number }) => void) {
  const started = performance.now();
  let told = 0;
  return (progress: FetchProgress) => {
    const { bytes, totalBytes, fetchedBytes } = progress;
    const tenth = Math.floor((10 * bytes) / totalBytes);
    if (tenth === told) return;
    told = tenth;
    const bytesPerSecond = Math.round((1000 * fetchedBytes) / Math.max(1, performance.now() - started));
    tell({ ...progress, percent: 10 * tenth, bytesPerSecond });
  };
}
