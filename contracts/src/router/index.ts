/**
 * The router model's contract between the packer, which trains it, and the edge, which runs it.
 */
export { FEATURES_VERSION, HASH_BUCKETS, MAX_CHARS, type RouterFeatures, routerFeatures } from './features.ts';
export { assertRouterFits, ROUTER_LIMIT_BYTES, type RouterPart } from './limits.ts';
export { parseRouterManifest, type RouterManifest } from './manifest.ts';
export { WordPiece } from './word-piece.ts';
