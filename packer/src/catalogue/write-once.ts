/**
 * Objects named by their content.
 */
import type { Digest } from '@signpost/contracts';
import {
  type ByteSource,
  ObjectMissing,
  type ObjectStore,
  openObject,
  readAll,
  sha256Stream,
  WriteConflict,
} from '@signpost/store';

export interface AddressedObject {
  readonly key: string;
  readonly digest: Digest;
  readonly bytes: number;
}

/** Writes an object that may be there already: it is this one then, unless an earlier write was damaged. */
export async function writeOnce(
  store: ObjectStore,
  { key, digest, bytes }: AddressedObject,
  content: () => Uint8Array | AsyncIterable<Uint8Array>,
): Promise<void> {
  try {
    // Most stores would take all the bytes before they say that there is an object.
    if ((await store.head(key)) === undefined) await store.write(key, content(), { ifNoneMatch: '*' });
    else if (!(await holds(store, key, digest, bytes))) await store.write(key, content());
  } catch (error) {
    if (!(error instanceof WriteConflict)) throw error;
    if (!(await holds(store, key, digest, bytes))) await store.write(key, content());
  }
}

async function holds(store: ObjectStore, key: string, digest: Digest, bytes: number): Promise<boolean> {
  try {
    const present: ByteSource = await openObject(store, key);
    return present.bytes === bytes && (await sha256Stream(readAll(present))) === digest;
  } catch (error) {
    if (error instanceof ObjectMissing) return false;
    throw error;
  }
}
