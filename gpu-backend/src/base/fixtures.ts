/**
 * A published base of arbitrary bytes: fetching doesn't look into files.
 */
import { createHash } from 'node:crypto';
import { BASES_PREFIX, type BaseManifest, type Catalogue, type Digest, EMPTY_CATALOGUE } from '@signpost/contracts';
import type { ObjectStore } from '@signpost/store';

const hash = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex') as Digest;

export interface PublishedFiles {
  readonly catalogue: Catalogue;
  readonly manifest: BaseManifest;
  readonly manifestDigest: Digest;
}

/** Writes files as objects, and gives the catalogue that names them as base `demo`. */
export async function publishFiles(
  store: ObjectStore,
  files: Readonly<Record<string, Uint8Array>>,
  chunkBytes: number,
): Promise<PublishedFiles> {
  const base = hash(Buffer.from('the tensors'));
  const manifest: BaseManifest = {
    format: 1,
    base,
    files: Object.entries(files).map(([name, bytes]) => ({
      name,
      key: `${BASES_PREFIX}${hash(bytes)}`,
      bytes: bytes.byteLength,
      sha256: hash(bytes),
      chunkBytes,
      chunks: Array.from({ length: Math.ceil(bytes.byteLength / chunkBytes) }, (_, i) =>
        hash(bytes.subarray(i * chunkBytes, (i + 1) * chunkBytes)),
      ),
    })),
  };
  for (const { name, key } of manifest.files) await store.write(key, files[name] ?? new Uint8Array());
  const text = Buffer.from(JSON.stringify(manifest));
  const reference = { key: `${BASES_PREFIX}list.json`, bytes: text.byteLength, digest: hash(text) };
  await store.write(reference.key, text);
  const catalogue = { ...EMPTY_CATALOGUE, bases: { [base]: { name: 'demo', manifest: reference } } };
  return { catalogue, manifest, manifestDigest: reference.digest };
}
