/**
 * Publishing: a delta file becomes an object named by its digest, and an entry in the catalogue.
 */
import {
  type Catalogue,
  chunkBytesFor,
  DEFAULT_CHANNEL,
  type Digest,
  type ExpertVersion,
  expertNameSchema,
  headerLength,
  MAX_TOKENIZER_HEADER,
  Problem,
  parseWith,
  sha256,
} from '@signpost/contracts';
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
import { withVersion } from './changes.ts';
import { readDeltaLayout } from './delta-source.ts';
import { freeKey, KeyCollected, MAX_ATTEMPTS, refuseCollected } from './free-key.ts';
import { writeOnce } from './write-once.ts';

export const EXPERTS_PREFIX = 'experts/';

export interface PublishOptions extends CatalogueKeys {
  /** Expert name; the one in the delta file when left out. */
  readonly name?: string;
  /** Channel that shall point at this version from now on. */
  readonly channel?: string;
  /** What the base is called in model lists. */
  readonly baseName?: string;
  /** What an evaluation found of it, in place of what is known of this version. */
  readonly quality?: ExpertVersion['quality'];
  /** Bytes of the chunks that are hashed each; by the file's size if left out. */
  readonly chunkBytes?: number;
  /** Called with the bytes read so far, of twice the file's: it is hashed first. */
  readonly onProgress?: (readBytes: number, totalBytes: number) => void;
  /** Stops it; what was uploaded in parts is resumed by the next run. */
  readonly signal?: AbortSignal;
}

export interface Published {
  readonly name: string;
  readonly version: ExpertVersion;
}

/**
 * Publishes the delta file at `path`. The object is written before the catalogue names it, so a reader never meets a dangling version; publishing
 * the same file twice changes nothing but the channel. The file is streamed, whatever its size.
 *
 * @throws Problem when the file is no whole delta file or changes meanwhile, the name isn't usable, or the catalogue can't be changed.
 */
export async function publish(store: ObjectStore, path: string, options: PublishOptions = {}): Promise<Published> {
  const { onProgress = () => undefined, signal, channel = DEFAULT_CHANNEL, baseName = 'base' } = options;
  const file = await openFile(path);
  try {
    const { metadata, addedRows } = await readDeltaLayout(file);
    const tokenizer = metadata.tokenizer === undefined && addedRows === 0 ? {} : { tokenizer: await headerOf(file) };
    const name = parseWith(expertNameSchema, options.name ?? metadata.expert, `${path}: expert name`);
    // Fails here rather than after an upload.
    let { catalogue } = await readForUpdate(store, options);
    const total = 2 * file.bytes;
    let done = 0;
    const progress = (bytes: number) => {
      done = bytes;
      onProgress(done, total);
    };
    const chunkBytes = options.chunkBytes ?? chunkBytesFor(file.bytes);
    const hasher = new ChunkHasher(chunkBytes);
    const digest = await sha256Stream(hasher.through(readAll(file, progress, signal)));
    const chunks = { bytes: chunkBytes, sha256: hasher.digests() };
    const again = () =>
      checkedStream(
        readAll(file, (bytes) => progress(file.bytes + bytes), signal),
        digest,
        path,
      );
    for (let attempt = 1; attempt <= MAX_ATTEMPTS; attempt++) {
      const version: ExpertVersion = {
        digest,
        base: metadata.base,
        key: freeKey(catalogue, (suffix) => `${EXPERTS_PREFIX}${digest}${suffix}.delta.safetensors`),
        bytes: file.bytes,
        method: metadata.method,
        ...tokenizer,
        chunks,
        published: new Date().toISOString(),
        ...publishedVersion(catalogue, name, digest),
        ...(options.quality === undefined ? {} : { quality: options.quality }),
      };
      await writeOnce(store, version, again);
      try {
        await updateCatalogue(
          store,
          (newest) => {
            catalogue = newest;
            refuseCollected(newest, [version.key]);
            return withVersion(newest, name, version, channel, baseName);
          },
          options,
        );
        // What was in the store already was not sent.
        if (done < total) progress(total);
        return { name, version: { ...version, ...publishedVersion(catalogue, name, digest) } };
      } catch (error) {
        if (!(error instanceof KeyCollected)) throw error;
      }
    }
    throw new Problem(`${store.url}: garbage collection came in between ${MAX_ATTEMPTS} times; try again`);
  } finally {
    await file.close();
  }
}

/** Where a region reads how the expert's tokenizer differs. @throws Problem when it is too long to be read at once. */
async function headerOf(file: ByteSource): Promise<NonNullable<ExpertVersion['tokenizer']>> {
  const headerBytes = 8 + headerLength(await file.read(0, 8), file.bytes, file.where);
  if (headerBytes > MAX_TOKENIZER_HEADER)
    throw new Problem(
      `${file.where}: its header has ${headerBytes} bytes; with a tokenizer of its own, at most ${MAX_TOKENIZER_HEADER} are read before a prompt`,
    );
  return { headerBytes, headerDigest: await sha256(await file.read(0, headerBytes)) };
}

function publishedVersion({ experts }: Catalogue, name: string, digest: Digest): ExpertVersion | undefined {
  return Object.hasOwn(experts, name)
    ? experts[name]?.versions.find((version) => version.digest === digest)
    : undefined;
}
