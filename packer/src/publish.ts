/**
 * Publishing: a delta file becomes an object named by its digest, and an entry in the catalogue.
 */
import { readFile } from 'node:fs/promises';
import {
  type Catalogue,
  type CatalogueExpert,
  DEFAULT_CHANNEL,
  type Digest,
  type ExpertVersion,
  expertNameSchema,
  parseWith,
  sha256,
} from '@signpost/contracts';
import { openDelta } from '@signpost/engine';
import { type ObjectStore, updateCatalogue, WriteConflict } from '@signpost/store';

export interface PublishOptions {
  /** Expert name; the one in the delta file when left out. */
  readonly name?: string;
  /** Channel that shall point at this version from now on. */
  readonly channel?: string;
  /** What the base is called in model lists. */
  readonly baseName?: string;
}

export interface Published {
  readonly name: string;
  readonly version: ExpertVersion;
}

/**
 * Publishes the delta file at `path`. The object is written before the catalogue names it, so a reader never meets a dangling version; publishing
 * the same file twice changes nothing but the channel.
 *
 * @throws Problem when the file is no whole delta file, or the name isn't usable.
 */
export async function publish(store: ObjectStore, path: string, options: PublishOptions = {}): Promise<Published> {
  const data = new Uint8Array(await readFile(path));
  const { metadata } = openDelta(data, path);
  const name = parseWith(expertNameSchema, options.name ?? metadata.expert, `${path}: expert name`);
  const digest = await sha256(data);
  const version: ExpertVersion = {
    digest,
    base: metadata.base,
    key: `experts/${digest}.delta.safetensors`,
    bytes: data.byteLength,
    method: metadata.method,
    published: new Date().toISOString(),
  };
  await writeOnce(store, version.key, data);
  await updateCatalogue(store, (catalogue) =>
    withVersion(catalogue, name, version, options.channel ?? DEFAULT_CHANNEL, options.baseName ?? 'base'),
  );
  return { name, version };
}

/** Content-addressed: an object that is there already is this one, unless an earlier write was damaged, which its size shows. */
async function writeOnce(store: ObjectStore, key: string, data: Uint8Array): Promise<void> {
  try {
    await store.write(key, data, { ifNoneMatch: '*' });
  } catch (error) {
    if (!(error instanceof WriteConflict)) throw error;
    const { data: present } = await store.read(key);
    if ((await sha256(present)) !== (await sha256(data))) await store.write(key, data);
  }
}

function withVersion(
  catalogue: Catalogue,
  name: string,
  version: ExpertVersion,
  channel: string,
  baseName: string,
): Catalogue {
  const before: CatalogueExpert = catalogue.experts[name] ?? { versions: [], channels: {} };
  const known = before.versions.some(({ digest }) => digest === version.digest);
  const expert: CatalogueExpert = {
    versions: known ? before.versions : [...before.versions, version],
    channels: { ...before.channels, [channel]: [{ digest: version.digest, weight: 1 }] },
  };
  return {
    ...catalogue,
    bases: { ...catalogue.bases, [version.base satisfies Digest]: catalogue.bases[version.base] ?? { name: baseName } },
    experts: { ...catalogue.experts, [name]: expert },
  };
}
