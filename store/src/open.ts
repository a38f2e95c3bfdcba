/**
 * Stores by URL.
 */
import { resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Problem } from '@signpost/contracts';
import { FileStore } from './file-store.ts';
import { checkKey, type ObjectStore } from './object-store.ts';
import { S3Store } from './s3-store.ts';

/**
 * Opens the store a URL names: `file:///path`, a plain path, or `s3://bucket/prefix`.
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
    case 's3':
      return openBucket(url);
    default:
      throw new Problem(
        `store ${url}: scheme "${scheme}" is not known; use file:///PATH, a path, or s3://BUCKET/PREFIX`,
      );
  }
}

function openBucket(url: string): S3Store {
  const { bucket, prefix = '' } =
    /^s3:\/\/(?<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(\/(?<prefix>.*?)\/?)?$/i.exec(url)?.groups ?? {};
  if (bucket === undefined)
    throw new Problem(
      `store ${url}: expected s3://BUCKET/PREFIX, with the bucket's name in 3 to 63 lower-case letters, digits, "." and "-"`,
    );
  if (prefix !== '') checkKey(prefix);
  return new S3Store(bucket, prefix);
}
