/**
 * Stores by URL.
 */
import { resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Problem } from '@signpost/contracts';
import { FileStore } from './file-store.ts';
import type { ObjectStore } from './object-store.ts';

/**
 * Opens the store a URL names: `file:///path`, or a plain path.
 *
 * @throws Problem for a scheme that isn't known.
 */
export function openStore(url: string): ObjectStore {
  const scheme = /^(?<scheme>[a-z][a-z0-9+.-]*):\/\//i.exec(url)?.groups?.scheme?.toLowerCase();
  switch (scheme) {
    case undefined:
      return new FileStore(resolve(url));
    case 'file':
      return new FileStore(fileURLToPath(url));
    default:
      throw new Problem(`store ${url}: scheme "${scheme}" is not known; use file:///PATH or a path`);
  }
}
