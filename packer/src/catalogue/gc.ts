/**
 * Garbage collection: versions that nothing needs leave the catalogue, then their objects leave the store.
 *
 * The catalogue is what decides: keys to be removed are written into it (as tombstones) by the same conditional write that drops their
 * versions, and a publisher uses no key with a tombstone. So of a publisher and a collector at once, one sees the other.
 */
import {
  BASES_PREFIX,
  baseManifestSchema,
  type Catalogue,
  type ExpertVersion,
  Problem,
  parseWith,
  sha256,
} from '@signpost/contracts';
import {
  type CatalogueKeys,
  type ListedObject,
  type ObjectStore,
  readCatalogue,
  updateCatalogue,
} from '@signpost/store';
import { neededDigests } from './changes.ts';
import { EXPERTS_PREFIX } from './publish.ts';

const DAY_MS = 86_400_000;
/** Whoever publishes may take this long between writing an object, or finding it there, and naming it in the catalogue. */
const PUBLISH_LIMIT_MS = DAY_MS;

export const GC_DEFAULTS = { graceMs: 7 * DAY_MS };

export interface GcOptions extends CatalogueKeys {
  /** Versions published less than this ago stay, needed or not, and so do objects of bases that were written less than this ago. */
  readonly graceMs: number;
  readonly now?: Date;
}

export interface Collected {
  readonly versions: readonly { readonly name: string; readonly digest: string }[];
  readonly objects: readonly { readonly key: string; readonly bytes: number }[];
  /** Keys of unfinished writes. */
  readonly unfinished: readonly string[];
}

/**
 * What `gc` would remove; unfinished writes are not looked for.
 *
 * @throws Problem when the store has no catalogue, or one that can't be trusted.
 */
export async function planGc(store: ObjectStore, options: GcOptions): Promise<Collected> {
  const { versions, objects } = await plan(store, options);
  return { versions, objects, unfinished: [] };
}

/**
 * Removes what no channel, no state that a channel could be rolled back to, and no grace period needs.
 *
 * @throws Problem when the store has no catalogue, or one that can't be trusted or changed.
 */
export async function gc(store: ObjectStore, options: GcOptions): Promise<Collected> {
  const { graceMs, now = new Date(), ...keys } = options;
  let planned = await plan(store, options);
  if (planned.versions.length > 0 || planned.objects.length > 0) {
    const { listed, bases } = planned;
    await updateCatalogue(
      store,
      (catalogue) => {
        planned = { ...collect(catalogue, listed, bases, graceMs, now), listed, bases };
        return planned.catalogue;
      },
      keys,
    );
    for (const { key } of planned.objects) await store.delete(key);
  }
  const unfinished = await store.sweep(new Date(now.getTime() - PUBLISH_LIMIT_MS));
  return { versions: planned.versions, objects: planned.objects, unfinished };
}

/** Lists before it reads: what is written between the two is in neither. */
async function plan(
  store: ObjectStore,
  { graceMs, trust = [], now = new Date() }: GcOptions,
): Promise<Plan & { readonly listed: readonly ListedObject[]; readonly bases: BaseKeys }> {
  const listed = [...(await store.list(EXPERTS_PREFIX)), ...(await store.list(BASES_PREFIX))];
  const { catalogue, etag } = await readCatalogue(store, trust);
  if (etag === undefined)
    throw new Problem(`${store.url} has no catalogue, so nothing there is known to be garbage; is it the right store?`);
  const bases = await keysOfBases(store, catalogue);
  return { ...collect(catalogue, listed, bases, graceMs, now), listed, bases };
}

/** The objects of each base's files, by the key of its manifest. */
export type BaseKeys = ReadonlyMap<string, readonly string[]>;

/** @throws Problem when a manifest isn't the one that the catalogue vouches for: nobody could say then what is needed. */
async function keysOfBases(store: ObjectStore, { bases }: Catalogue): Promise<BaseKeys> {
  const keys = new Map<string, readonly string[]>();
  for (const { name, manifest } of Object.values(bases)) {
    if (manifest === undefined) continue;
    const { data } = await store.read(manifest.key, { range: { start: 0, end: manifest.bytes } });
    const where = `${store.url}/${manifest.key}`;
    if ((await sha256(data)) !== manifest.digest)
      throw new Problem(`${where}, the list of files of base ${name}, was altered; publish the base again`);
    const { files } = parseWith(baseManifestSchema, JSON.parse(new TextDecoder().decode(data)), where);
    keys.set(
      manifest.key,
      files.map(({ key }) => key),
    );
  }
  return keys;
}

interface Plan {
  readonly catalogue: Catalogue;
  readonly versions: readonly { readonly name: string; readonly digest: string }[];
  readonly objects: readonly ListedObject[];
}

/**
 * One catalogue's garbage, among the `objects` that were in the store before it was read.
 *
 * @param bases of an earlier state of the catalogue: a manifest that isn't in it keeps everything that bases consist of.
 */
export function collect(
  catalogue: Catalogue,
  objects: readonly ListedObject[],
  bases: BaseKeys,
  graceMs: number,
  now: Date,
): Plan {
  const kept: ExpertVersion[] = [];
  const dropped: { name: string; version: ExpertVersion }[] = [];
  const experts: Catalogue['experts'] = {};
  for (const [name, expert] of Object.entries(catalogue.experts)) {
    const needed = neededDigests(expert);
    const versions = expert.versions.filter((version) => {
      const isKept = needed.has(version.digest) || now.getTime() - Date.parse(version.published) < graceMs;
      if (!isKept) dropped.push({ name, version });
      return isKept;
    });
    kept.push(...versions);
    if (versions.length > 0) experts[name] = { ...expert, versions };
  }
  const named = new Set(kept.map(({ key }) => key));
  const unnamed = new Set(dropped.map(({ version }) => version.key));
  const before = catalogue.tombstones ?? {};
  const manifests = Object.values(catalogue.bases).flatMap(({ manifest }) => manifest?.key ?? []);
  for (const key of manifests.flatMap((manifest) => [manifest, ...(bases.get(manifest) ?? [])])) named.add(key);
  const areBasesKnown = manifests.every((key) => bases.has(key));
  const age = ({ modified }: ListedObject) => now.getTime() - modified.getTime();
  const doomed = objects.filter((object) => {
    const { key } = object;
    if (named.has(key)) return false;
    if (key.startsWith(BASES_PREFIX))
      return areBasesKnown && (key in before || age(object) > Math.max(graceMs, PUBLISH_LIMIT_MS));
    // What a version needed until now, what an earlier run did not get to, and what nobody came to name.
    return unnamed.has(key) || key in before || age(object) > PUBLISH_LIMIT_MS;
  });
  const isRecent = ([, time]: [string, string]) => now.getTime() - Date.parse(time) < PUBLISH_LIMIT_MS;
  const tombstones = {
    ...Object.fromEntries(Object.entries(before).filter(isRecent)),
    ...Object.fromEntries(doomed.map(({ key }) => [key, now.toISOString()])),
  };
  return {
    catalogue: { ...catalogue, experts, tombstones },
    versions: dropped.map(({ name, version: { digest } }) => ({ name, digest })),
    objects: doomed,
  };
}
