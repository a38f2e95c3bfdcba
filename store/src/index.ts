/**
 * Object storage and the catalogue in it.
 */
export * from './catalogue.ts';
export * from './object-store.ts';
export * from './open.ts';
