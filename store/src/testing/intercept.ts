/**
 * Stores that misbehave on purpose.
 */
import type { ObjectStore } from '../object-store.ts';

/** A store with some operations replaced. */
export function interceptStore(store: ObjectStore, replaced: Partial<ObjectStore>): ObjectStore {
  return {
    url: store.url,
    head: (key, options) => store.head(key, options),
    read: (key, options) => store.read(key, options),
    write: (key, data, condition) => store.write(key, data, condition),
    list: (prefix) => store.list(prefix),
    delete: (key) => store.delete(key),
    sweep: (before) => store.sweep(before),
    ...replaced,
  };
}
