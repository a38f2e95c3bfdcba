/**
 * Object storage as the rest of Signpost sees it: keys, ranged reads, and writes that can be made conditional.
 */
export interface ObjectInfo {
  readonly bytes: number;
  /** Changes whenever the object's content does. */
  readonly etag: string;
}

export interface StoredObject extends ObjectInfo {
  readonly data: Uint8Array;
}

/** When a write may take place: only over the version named, or only where nothing is. */
export type WriteCondition = { readonly ifMatch: string } | { readonly ifNoneMatch: '*' };

export interface ObjectStore {
  /** As given to `openStore`. */
  readonly url: string;
  /** Undefined when there is no such object. */
  head(key: string): Promise<ObjectInfo | undefined>;
  /**
   * Reads an object, or bytes `start` … `end - 1` of it.
   *
   * @throws ObjectMissing when there is none; Problem when the range lies outside it.
   */
  read(key: string, range?: { readonly start: number; readonly end: number }): Promise<StoredObject>;
  /**
   * Writes a whole object: readers see the old one or the new one, never a part.
   *
   * @throws WriteConflict when the condition doesn't hold.
   */
  write(key: string, data: Uint8Array | AsyncIterable<Uint8Array>, condition?: WriteCondition): Promise<ObjectInfo>;
  /** Keys that begin with `prefix`, sorted. */
  list(prefix: string): Promise<string[]>;
  delete(key: string): Promise<void>;
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
