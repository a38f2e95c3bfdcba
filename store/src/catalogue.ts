/**
 * The catalogue in a store, and the experts it names.
 */

import { setTimeout as sleep } from 'node:timers/promises';
import {
  CATALOGUE_KEY,
  type Catalogue,
  catalogueSchema,
  EMPTY_CATALOGUE,
  type ExpertVersion,
  Problem,
  parseWith,
  sha256,
} from '@signpost/contracts';
import { ObjectMissing, type ObjectStore, WriteConflict } from './object-store.ts';

/** Publishers that lose this many races in a row have a different problem. */
const MAX_UPDATE_ATTEMPTS = 20;
const MAX_BACKOFF_MS = 200;

export interface StoredCatalogue {
  readonly catalogue: Catalogue;
  /** Undefined when the store has no catalogue yet. */
  readonly etag: string | undefined;
}

/**
 * Reads and checks the catalogue; a store without one has the empty catalogue.
 *
 * @throws Problem when it isn't valid.
 */
export async function readCatalogue(store: ObjectStore): Promise<StoredCatalogue> {
  const where = `${store.url}/${CATALOGUE_KEY}`;
  try {
    const { data, etag } = await store.read(CATALOGUE_KEY);
    return { catalogue: parseWith(catalogueSchema, parseJson(data, where), where), etag };
  } catch (error) {
    if (error instanceof ObjectMissing) return { catalogue: EMPTY_CATALOGUE, etag: undefined };
    throw error;
  }
}

/**
 * Applies `change` to the newest catalogue by a conditional write; when somebody else wrote in between, to theirs, so that both changes are
 * in it.
 *
 * @throws Problem when the changed catalogue isn't valid, or the race is lost too often.
 */
export async function updateCatalogue(
  store: ObjectStore,
  change: (catalogue: Catalogue) => Catalogue,
): Promise<Catalogue> {
  for (let attempt = 1; attempt <= MAX_UPDATE_ATTEMPTS; attempt++) {
    const { catalogue, etag } = await readCatalogue(store);
    const changed = parseWith(catalogueSchema, change(catalogue), `changed catalogue of ${store.url}`);
    const text = `${JSON.stringify(changed, null, 2)}\n`;
    try {
      await store.write(
        CATALOGUE_KEY,
        new TextEncoder().encode(text),
        etag === undefined ? { ifNoneMatch: '*' } : { ifMatch: etag },
      );
      return changed;
    } catch (error) {
      if (!(error instanceof WriteConflict)) throw error;
      await sleep(Math.random() * Math.min(MAX_BACKOFF_MS, 5 * 2 ** attempt));
    }
  }
  throw new Problem(
    `${store.url}: the catalogue changed ${MAX_UPDATE_ATTEMPTS} times while this change was being written; try again`,
  );
}

/**
 * Reads an expert's delta file, checking its size before and its digest after.
 *
 * @throws Problem when size or digest differ from the catalogue's; ObjectMissing when it is gone.
 */
export async function readExpert(store: ObjectStore, version: ExpertVersion): Promise<Uint8Array> {
  const found = await store.head(version.key);
  if (found === undefined) throw new ObjectMissing(store.url, version.key);
  if (found.bytes !== version.bytes) {
    throw new Problem(
      `${store.url}/${version.key} has ${found.bytes} bytes, the catalogue says ${version.bytes}: truncated or replaced; publish it again`,
    );
  }
  const { data } = await store.read(version.key);
  const digest = await sha256(data);
  if (digest !== version.digest) {
    throw new Problem(
      `${store.url}/${version.key} has digest ${digest}, the catalogue says ${version.digest}: altered; publish it again`,
    );
  }
  return data;
}

function parseJson(data: Uint8Array, where: string): unknown {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(data));
  } catch (cause) {
    throw new Problem(`${where} is not JSON: ${cause instanceof Error ? cause.message : cause}`, { cause });
  }
}
