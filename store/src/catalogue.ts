/**
 * The catalogue in a store, and the experts it names.
 */

import { setTimeout as sleep } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import {
  CATALOGUE_KEY,
  type Catalogue,
  catalogueSchema,
  type DeltaLayout,
  deltaLayout,
  EMPTY_CATALOGUE,
  type ExpertVersion,
  openCatalogue,
  Problem,
  parseHeader,
  parseWith,
  type SigningKey,
  sha256,
  signCatalogue,
  type TrustedKey,
} from '@signpost/contracts';
import { ObjectMissing, type ObjectStore, WriteConflict } from './object-store.ts';

/** Publishers that lose this many races in a row have a different problem. */
const MAX_UPDATE_ATTEMPTS = 20;
const MAX_BACKOFF_MS = 200;

export interface StoredCatalogue {
  readonly catalogue: Catalogue;
  /** Undefined when the store has no catalogue yet. */
  readonly etag: string | undefined;
  /** Id of the key it is signed with. */
  readonly signedBy: string | undefined;
}

export interface CatalogueKeys {
  /** What a changed catalogue is signed with. */
  readonly sign?: SigningKey;
  /** Whose signatures are taken; none: a catalogue need not be signed. */
  readonly trust?: readonly TrustedKey[];
}

/**
 * Reads and checks the catalogue. A store without one has the empty catalogue, unless it is to be signed: then somebody may have removed it.
 *
 * @throws Problem when it isn't valid, or not signed by one of the keys in `trust`; the `signal`'s reason when it aborts.
 */
export async function readCatalogue(
  store: ObjectStore,
  trust: readonly TrustedKey[] = [],
  signal?: AbortSignal,
): Promise<StoredCatalogue> {
  const stored = await openStored(store, trust, signal);
  if (stored.etag === undefined && trust.length > 0)
    throw new Problem(`${store.url} has no ${CATALOGUE_KEY}, and a signed one is expected; publish to it first`);
  return stored;
}

/**
 * The catalogue as `updateCatalogue` would change it: for what is decided before, and to fail before work is done for nothing.
 *
 * @throws Problem when it isn't valid, or its signature can't be checked or renewed with these keys.
 */
export async function readForUpdate(
  store: ObjectStore,
  { sign, trust = [] }: CatalogueKeys = {},
): Promise<StoredCatalogue> {
  checkKeys(sign, trust);
  // What is signed here is vouched for, so it must be known whose it was before.
  return openForUpdate(store, sign === undefined || trust.length > 0 ? trust : [sign.public], sign);
}

/**
 * Applies `change` to the newest catalogue by a conditional write, which makes it the next revision; when somebody else wrote in between, to theirs, so that both changes are
 * in it.
 *
 * @throws Problem as `readForUpdate`, or when the changed catalogue isn't valid or the race is lost too often.
 */
export function updateCatalogue(
  store: ObjectStore,
  change: (catalogue: Catalogue) => Catalogue,
  keys: CatalogueKeys = {},
): Promise<Catalogue> {
  return rewrite(store, () => readForUpdate(store, keys), change, keys.sign);
}

/**
 * Signs the catalogue as it stands: the first signature of an unsigned one, or another key's. Whoever calls this has looked at it.
 *
 * @throws Problem when it isn't valid, or not signed by one of the keys in `trust`, if there are any.
 */
export function resignCatalogue(
  store: ObjectStore,
  sign: SigningKey,
  trust: readonly TrustedKey[] = [],
): Promise<Catalogue> {
  return rewrite(
    store,
    () => openForUpdate(store, trust, sign),
    (catalogue) => catalogue,
    sign,
  );
}

async function rewrite(
  store: ObjectStore,
  open: () => Promise<StoredCatalogue>,
  change: (catalogue: Catalogue) => Catalogue,
  sign: SigningKey | undefined,
): Promise<Catalogue> {
  for (let attempt = 1; attempt <= MAX_UPDATE_ATTEMPTS; attempt++) {
    const { catalogue, etag } = await open();
    const next = change(catalogue);
    const revision = catalogue.revision + (isDeepStrictEqual(next, catalogue) ? 0 : 1);
    const changed = parseWith(catalogueSchema, { ...next, revision }, `changed catalogue of ${store.url}`);
    const payload = `${JSON.stringify(changed, null, 2)}\n`;
    const text = sign === undefined ? payload : await signCatalogue(payload, sign);
    try {
      await store.write(
        CATALOGUE_KEY,
        new TextEncoder().encode(text),
        etag === undefined ? { ifNoneMatch: '*' } : { ifMatch: etag },
      );
      return changed;
    } catch (error) {
      if (!(error instanceof WriteConflict)) throw error;
      // A write whose answer was lost, and that was sent again, conflicts with itself.
      if ((await readText(store))?.text === text) return changed;
      await sleep(Math.random() * Math.min(MAX_BACKOFF_MS, 5 * 2 ** attempt));
    }
  }
  throw new Problem(
    `${store.url}: the catalogue changed ${MAX_UPDATE_ATTEMPTS} times while this change was being written; try again`,
  );
}

async function openForUpdate(
  store: ObjectStore,
  trusted: readonly TrustedKey[],
  sign: SigningKey | undefined,
): Promise<StoredCatalogue> {
  const stored = await openStored(store, trusted);
  if (stored.signedBy !== undefined && sign === undefined)
    throw new Problem(
      `the catalogue of ${store.url} is signed by key ${stored.signedBy}; to change it give a key (--sign-key or SIGNPOST_SIGN_KEY), for without a signature its readers would refuse it`,
    );
  return stored;
}

async function openStored(
  store: ObjectStore,
  trusted: readonly TrustedKey[],
  signal?: AbortSignal,
): Promise<StoredCatalogue> {
  const stored = await readText(store, signal);
  if (stored === undefined) return { catalogue: EMPTY_CATALOGUE, etag: undefined, signedBy: undefined };
  const where = `${store.url}/${CATALOGUE_KEY}`;
  const { payload, signedBy } = await openCatalogue(stored.text, trusted, where);
  return { catalogue: parseWith(catalogueSchema, payload, where), etag: stored.etag, signedBy };
}

async function readText(
  store: ObjectStore,
  signal?: AbortSignal,
): Promise<{ readonly text: string; readonly etag: string } | undefined> {
  try {
    const { data, etag } = await store.read(CATALOGUE_KEY, { signal });
    return { text: new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(data), etag };
  } catch (error) {
    if (error instanceof ObjectMissing) return undefined;
    if (error instanceof TypeError) throw new Problem(`${store.url}/${CATALOGUE_KEY} is not UTF-8 text: altered`);
    throw error;
  }
}

/** Whoever writes must be able to read what was written. */
function checkKeys(sign: SigningKey | undefined, trust: readonly TrustedKey[]): void {
  if (trust.length === 0) return;
  if (sign === undefined)
    throw new Problem(
      'a trust key is set, so a changed catalogue must be signed; give --sign-key or SIGNPOST_SIGN_KEY',
    );
  if (!trust.some(({ id }) => id === sign.public.id))
    throw new Problem(
      `key ${sign.public.id} is to sign, but is not among the trusted (${trust.map(({ id }) => id).join(', ')}); add its public key to --trust-key`,
    );
}

/**
 * Reads the header of an expert's delta file, where the catalogue refers to it.
 *
 * @throws Problem when it isn't the one that was published, or no delta file's; ObjectMissing when it is gone.
 */
export async function readExpertHeader(
  store: ObjectStore,
  { key, bytes }: ExpertVersion,
  { headerBytes, headerDigest }: NonNullable<ExpertVersion['tokenizer']>,
): Promise<DeltaLayout> {
  const where = `${store.url}/${key}`;
  const { data } = await store.read(key, { range: { start: 0, end: headerBytes } });
  const digest = await sha256(data);
  if (digest !== headerDigest)
    throw new Problem(
      `${where} has a header with digest ${digest}, the catalogue says ${headerDigest}: altered; publish it again`,
    );
  return deltaLayout(parseHeader(data.subarray(8), bytes, where), where);
}
