/**
 * Object storage and the catalogue in it.
 */
export * from './catalogue.ts';
export * from './keys.ts';
export * from './object-store.ts';
export * from './open.ts';
export { S3Store } from './s3-store.ts';
export * from './stream.ts';
