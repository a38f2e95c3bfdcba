/**
 * Stores by URL.
 */
import { resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Problem } from '@signpost/contracts';
import { FileStore } from './file-store.ts';
import { HttpStore } from './http-store.ts';
import { checkKey, type ObjectStore } from './object-store.ts';
import { S3Store } from './s3-store.ts';

/** What `openStore` takes, for messages and help. */
export const STORE_URLS = 'file:///PATH, a path, s3://BUCKET/PREFIX, or (to read) https://HOST/PATH';

/**
 * Opens the store a URL names: `file:///path`, a plain path, `s3://bucket/prefix`, or, to read only, `https://host/path`.
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
    case 'https':
    case 'http':
      return new HttpStore(url);
    default:
      throw new Problem(`store ${url}: scheme "${scheme}" is not known; use ${STORE_URLS}`);
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
