/**
 * How delta files are read from where they are kept, checked against the catalogue's hashes as they come.
 */
import type { ExpertVersion } from '@signpost/contracts';
import { type IntegrityCheck, type ObjectStore, RANGE_BYTES, readVerified } from '@signpost/store';
import { FairLink } from './link.ts';

/** Ranges under way at once: of all reads, and of one that is alone. */
const PARALLEL_READS = 8;
/** Ranges of one read that are under way or wait for one before them: a late one doesn't leave the link idle. */
const WINDOW_RANGES = 2 * PARALLEL_READS;

export interface ReadingOptions {
  /** Ends it, and every transfer, with its reason. */
  readonly signal?: AbortSignal | undefined;
  /** Takes bytes that are right, in file order. */
  readonly onChunk: (data: Uint8Array, start: number) => void;
  /** Told each time that bytes fail a check, also where the next reading has the right ones. */
  readonly onMismatch?: ((check: IntegrityCheck) => void) | undefined;
}

/** Reads the file at a version's key to its end, all of it right. @throws what `readVerified` does. */
export type ExpertReader = (version: ExpertVersion, options: ReadingOptions) => Promise<void>;

/** Reads over a link that all reads share. @param rangeBytes of a read; a chunk's where that has more */
export function storeReader(store: ObjectStore, rangeBytes = RANGE_BYTES): ExpertReader {
  const link = new FairLink(store, PARALLEL_READS);
  return (version, options) => readVerified(link.share(), version, { ...options, rangeBytes, parallel: WINDOW_RANGES });
}

export function folderReader(files: ObjectStore): ExpertReader {
  return (version, options) => readVerified(files, version, options);
}
