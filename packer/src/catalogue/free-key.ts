/**
 * Keys for what is published, beside a garbage collection that may be under way: it leaves tombstones in the catalogue for the keys that it is about to remove.
 */
import type { Catalogue } from '@signpost/contracts';

/** How often garbage collection may come in between. */
export const MAX_ATTEMPTS = 5;

/** Garbage collection decided to remove an object before the catalogue named it. */
export class KeyCollected extends Error {}

/** The first key that isn't about to be removed. @param keyOf of the suffixes "", ".1", ".2", … */
export function freeKey({ tombstones = {} }: Catalogue, keyOf: (suffix: string) => string): string {
  for (let i = 0; ; i++) {
    const key = keyOf(i === 0 ? '' : `.${i}`);
    if (!(key in tombstones)) return key;
  }
}

/** @throws KeyCollected when one of the keys is about to be removed. */
export function refuseCollected({ tombstones = {} }: Catalogue, keys: readonly string[]): void {
  if (keys.some((key) => key in tombstones)) throw new KeyCollected();
}
