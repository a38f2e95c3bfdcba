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
  type CatalogueBase,
  type Digest,
  Problem,
  sha256,
} from '@signpost/contracts';
import { openCheckpoint } from '@signpost/engine';
import {
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
  await readForUpdate(store, options);
  const digest = await checkpoint.digest();
  const names = checkpointFiles(await readdir(dir), dir).sort();
  const sources = await Promise.all(names.map((name) => openFile(join(dir, name))));
  const total = 2 * sources.reduce((sum, { bytes }) => sum + bytes, 0);
  let done = 0;
  try {
    const files: BaseFile[] = [];
    for (const [index, source] of sources.entries()) {
      const before = done;
      const track = (bytes: number) => {
        done = before + bytes;
        onProgress(done, total);
      };
      const hasher = new ChunkHasher(chunkBytes);
      const hash = await sha256Stream(hasher.through(readAll(source, track, signal)));
      const file: BaseFile = {
        name: names[index] ?? '',
        key: `${BASES_PREFIX}${hash}`,
        bytes: source.bytes,
        sha256: hash,
        chunkBytes,
        chunks: splitDigests(hasher.digests()),
      };
      const content = () =>
        checkedStream(
          readAll(source, (bytes) => track(source.bytes + bytes), signal),
          hash,
          source.where,
        );
      await writeOnce(store, { key: file.key, digest: hash, bytes: file.bytes }, content);
      // What was in the store already was not sent.
      track(2 * source.bytes);
      files.push(file);
    }
    const manifest: BaseManifest = { format: 1, base: digest, files };
    const text = new TextEncoder().encode(`${JSON.stringify(manifest)}\n`);
    const reference = { bytes: text.byteLength, digest: await sha256(text) };
    const key = `${BASES_PREFIX}${reference.digest}.json`;
    await writeOnce(store, { key, ...reference }, () => text);
    const catalogue = await updateCatalogue(
      store,
      (newest) => ({
        ...newest,
        bases: {
          ...newest.bases,
          [digest]: {
            name: options.name ?? newest.bases[digest]?.name ?? basename(dir),
            manifest: { key, ...reference },
          },
        },
      }),
      options,
    );
    const entry = catalogue.bases[digest];
    if (entry?.manifest === undefined)
      throw new Problem(`${store.url}: the catalogue was changed meanwhile; try again`);
    return {
      digest,
      name: entry.name,
      manifest: entry.manifest,
      files: files.length,
      bytes: files.reduce((sum, { bytes }) => sum + bytes, 0),
    };
  } finally {
    await Promise.all(sources.map((source) => source.close()));
  }
}

function splitDigests(joined: string): Digest[] {
  const bytes = Buffer.from(joined, 'base64');
  return Array.from(
    { length: bytes.byteLength / DIGEST_BYTES },
    (_, i) => bytes.subarray(i * DIGEST_BYTES, (i + 1) * DIGEST_BYTES).toString('hex') as Digest,
  );
}
