/**
 * Publishing a base: its checkpoint's files become objects, and the catalogue says where the list of them is. Regions then need no base of their own.
 */
import { readdir } from 'node:fs/promises';
import { basename, join } from 'node:path';
import {
  BASE_CHUNK_BYTES,
  BASES_PREFIX,
  type BaseFile,
  type BaseManifest,
  type Catalogue,
  type CatalogueBase,
  type Digest,
  Problem,
  sha256,
} from '@signpost/contracts';
import { openCheckpoint } from '@signpost/engine';
import {
  type ByteSource,
  type CatalogueKeys,
  ChunkHasher,
  checkedStream,
  type ObjectStore,
  openFile,
  readAll,
  readForUpdate,
  sha256Stream,
  updateCatalogue,
} from '@signpost/store';
import { checkpointFiles } from '../source/checkpoint-files.ts';
import { freeKey, KeyCollected, MAX_ATTEMPTS, refuseCollected } from './free-key.ts';
import { writeOnce } from './write-once.ts';

const DIGEST_BYTES = 32;

export interface PublishBaseOptions extends CatalogueKeys {
  /** What the base is called in model lists; what it was called before, or the folder, when left out. */
  readonly name?: string;
  /** Bytes of the chunks that are hashed each, and fetched. */
  readonly chunkBytes?: number;
  /** Called with the bytes read so far, of twice the files': they are hashed first. */
  readonly onProgress?: (readBytes: number, totalBytes: number) => void;
  /** Stops it; what was uploaded is not sent again by the next run. */
  readonly signal?: AbortSignal;
}

export interface PublishedBase {
  readonly digest: Digest;
  readonly name: string;
  readonly manifest: NonNullable<CatalogueBase['manifest']>;
  readonly files: number;
  readonly bytes: number;
}

/**
 * Publishes the checkpoint in `dir`. Objects are written before the catalogue names them; the same checkpoint twice sends nothing again.
 *
 * @throws Problem when it is no checkpoint that a region could load, a file changes meanwhile, or the catalogue can't be changed.
 */
export async function publishBase(
  store: ObjectStore,
  dir: string,
  options: PublishBaseOptions = {},
): Promise<PublishedBase> {
  const { onProgress = () => undefined, signal, chunkBytes = BASE_CHUNK_BYTES } = options;
  const checkpoint = await openCheckpoint(dir);
  // Fails here rather than after an upload.
  let { catalogue } = await readForUpdate(store, options);
  const digest = await checkpoint.digest();
  const names = checkpointFiles(await readdir(dir), dir).sort();
  const sources = await Promise.all(names.map((name) => openFile(join(dir, name))));
  const bytes = sources.reduce((sum, source) => sum + source.bytes, 0);
  let told = 0;
  /** What was in the store already is not sent, and what garbage collection came in between is sent again. */
  const tell = (done: number) => {
    told = Math.max(told, done);
    onProgress(told, 2 * bytes);
  };
  try {
    const hashed: HashedFile[] = [];
    let before = 0;
    for (const [index, source] of sources.entries()) {
      const hasher = new ChunkHasher(chunkBytes);
      const from = before;
      const sha256 = await sha256Stream(hasher.through(readAll(source, (read) => tell(from + read), signal)));
      hashed.push({
        name: names[index] ?? '',
        source,
        sha256,
        chunks: splitDigests(hasher.digests()),
        sentAt: bytes + from,
      });
      before += source.bytes;
    }
    for (let attempt = 1; attempt <= MAX_ATTEMPTS; attempt++) {
      const files: BaseFile[] = [];
      for (const { name, source, sha256, chunks, sentAt } of hashed) {
        const key = freeKey(catalogue, (suffix) => `${BASES_PREFIX}${sha256}${suffix}`);
        const content = () =>
          checkedStream(
            readAll(source, (sent) => tell(sentAt + sent), signal),
            sha256,
            source.where,
          );
        await writeOnce(store, { key, digest: sha256, bytes: source.bytes }, content);
        tell(sentAt + source.bytes);
        files.push({ name, key, bytes: source.bytes, sha256, chunkBytes, chunks });
      }
      const manifest = await writeManifest(store, catalogue, { format: 1, base: digest, files });
      try {
        const changed = await updateCatalogue(
          store,
          (newest) => {
            catalogue = newest;
            refuseCollected(newest, [manifest.key, ...files.map(({ key }) => key)]);
            const name = options.name ?? newest.bases[digest]?.name ?? basename(dir);
            return { ...newest, bases: { ...newest.bases, [digest]: { name, manifest } } };
          },
          options,
        );
        const name = changed.bases[digest]?.name ?? '';
        return { digest, name, manifest, files: files.length, bytes };
      } catch (error) {
        if (!(error instanceof KeyCollected)) throw error;
      }
    }
    throw new Problem(`${store.url}: garbage collection came in between ${MAX_ATTEMPTS} times; try again`);
  } finally {
    await Promise.all(sources.map((source) => source.close()));
  }
}

interface HashedFile {
  readonly name: string;
  readonly source: ByteSource;
  readonly sha256: Digest;
  readonly chunks: Digest[];
  /** Bytes of progress before it is sent. */
  readonly sentAt: number;
}

async function writeManifest(
  store: ObjectStore,
  catalogue: Catalogue,
  manifest: BaseManifest,
): Promise<PublishedBase['manifest']> {
  const text = new TextEncoder().encode(`${JSON.stringify(manifest)}\n`);
  const digest = await sha256(text);
  const key = freeKey(catalogue, (suffix) => `${BASES_PREFIX}${digest}${suffix}.json`);
  await writeOnce(store, { key, digest, bytes: text.byteLength }, () => text);
  return { key, bytes: text.byteLength, digest };
}

function splitDigests(joined: string): Digest[] {
  const bytes = Buffer.from(joined, 'base64');
  return Array.from(
    { length: bytes.byteLength / DIGEST_BYTES },
    (_, i) => bytes.subarray(i * DIGEST_BYTES, (i + 1) * DIGEST_BYTES).toString('hex') as Digest,
  );
}
