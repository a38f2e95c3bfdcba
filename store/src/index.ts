/**
 * Object storage and the catalogue in it.
 */
export * from './catalogue.ts';
export { HttpStore } from './http-store.ts';
export * from './keys.ts';
export * from './object-store.ts';
export * from './open.ts';
export { RETRY_DEFAULTS, type RetryPolicy } from './retry.ts';
export { S3Store } from './s3-store.ts';
export * from './stream.ts';
export * from './verified.ts';
