/**
 * How delta files are read from where they are kept, checked against the catalogue's hashes as they come.
 */
import type { ExpertVersion } from '@signpost/contracts';
import { type ObjectStore, readVerified } from '@signpost/store';
import { FairLink } from './link.ts';

/** Ranges under way at once: of all reads, and of one that is alone. */
const PARALLEL_READS = 8;
/** Chunks of one read that are under way or wait for one before them: a late one doesn't leave the link idle. */
const WINDOW_CHUNKS = 2 * PARALLEL_READS;

export interface ReadingOptions {
  /** Ends it, and every transfer, with its reason. */
  readonly signal?: AbortSignal | undefined;
  /** Takes bytes that are right, in file order. */
  readonly onChunk: (data: Uint8Array, start: number) => void;
}

/** Reads the file at a version's key to its end, all of it right. @throws what `readVerified` does. */
export type ExpertReader = (version: ExpertVersion, options: ReadingOptions) => Promise<void>;

/** Reads over a link that all reads share. */
export function storeReader(store: ObjectStore): ExpertReader {
  const link = new FairLink(store, PARALLEL_READS);
  return (version, options) => readVerified(link.share(), version, { ...options, parallel: WINDOW_CHUNKS });
}

export function folderReader(files: ObjectStore): ExpertReader {
  return (version, options) => readVerified(files, version, options);
}
