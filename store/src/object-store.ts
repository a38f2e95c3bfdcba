/**
 * Object storage as the rest of Signpost sees it: keys, ranged reads, and writes that can be made conditional.
 */
import { Problem } from '@signpost/contracts';

export interface ObjectInfo {
  readonly bytes: number;
  /** Changes whenever the object's content does. */
  readonly etag: string;
}

export interface StoredObject extends ObjectInfo {
  /** Empty where `parts` took them. */
  readonly data: Uint8Array;
}

export interface ListedObject {
  readonly key: string;
  readonly bytes: number;
  /** When it was last written. */
  readonly modified: Date;
}

/** When a write may take place: only over the version named, or only where nothing is. */
export type WriteCondition = { readonly ifMatch: string } | { readonly ifNoneMatch: '*' };

/** Bytes `start` … `end - 1`. */
export interface ByteRange {
  readonly start: number;
  readonly end: number;
}

export interface ReadOptions {
  /** The whole object if left out. */
  readonly range?: ByteRange | undefined;
  /** Ends the reading, and the transfer, with its reason. */
  readonly signal?: AbortSignal | undefined;
  /** Takes a range's bytes while it still comes in. Stores over a network do so; a folder has it all at once. */
  readonly parts?: PartsTaker | undefined;
}

export interface PartsTaker {
  /** Of each part; the last may be shorter. */
  readonly bytes: number;
  /** Takes a part, in a buffer of its own, which begins `at` bytes into the range: one after the other, and from the first again where a transfer had to be begun anew. */
  readonly take: (part: Uint8Array, at: number) => void;
}

export interface ObjectStore {
  /** As given to `openStore`. */
  readonly url: string;
  /** Undefined when there is no such object. */
  head(key: string, options?: Pick<ReadOptions, 'signal'>): Promise<ObjectInfo | undefined>;
  /**
   * Reads an object, or a range of it. Over a network, failures that may pass are waited out within bounds (retry.ts).
   *
   * @throws ObjectMissing when there is none; Problem when the range lies outside it.
   */
  read(key: string, options?: ReadOptions): Promise<StoredObject>;
  /**
   * Writes a whole object: readers see the old one or the new one, never a part. A stream is never held in memory whole. A write that may
   * only create (`ifNoneMatch`) is taken for content-addressed: where the store allows, one that was interrupted is resumed by the next.
   *
   * @throws WriteConflict when the condition doesn't hold.
   */
  write(key: string, data: Uint8Array | AsyncIterable<Uint8Array>, condition?: WriteCondition): Promise<ObjectInfo>;
  /** Objects whose keys begin with `prefix`, sorted by key. */
  list(prefix: string): Promise<ListedObject[]>;
  delete(key: string): Promise<void>;
  /** Removes what writes begun before `before` and never ended have left; returns the keys they were for. */
  sweep(before: Date): Promise<string[]>;
}

export class ObjectMissing extends Error {
  override readonly name = 'ObjectMissing';
  readonly key: string;

  constructor(store: string, key: string) {
    super(`${store} has no object ${key}`);
    this.key = key;
  }
}

/** Somebody else wrote first: read again, apply the change to what is there now, and try again. */
export class WriteConflict extends Error {
  override readonly name = 'WriteConflict';

  constructor(store: string, key: string) {
    super(`${store}: ${key} was changed by somebody else`);
  }
}

/** @throws Problem for what could leave the store's folder, or is written differently in a URL. */
export function checkKey(key: string): void {
  if (!/^[\w@-][\w@.-]*(\/[\w@-][\w@.-]*)*$/.test(key)) {
    throw new Problem(`"${key}" is no object key: letters, digits, "_", "@", ".", "-", in parts joined by "/"`);
  }
}

/** @throws Problem when bytes `start` … `end - 1` are not all inside an object of `bytes`. */
export function checkRange(store: string, key: string, { start, end }: ByteRange, bytes: number): void {
  if (start < 0 || end < start || end > bytes)
    throw new Problem(`${store}: bytes ${start}–${end} lie outside ${key}, which has ${bytes}`);
}
