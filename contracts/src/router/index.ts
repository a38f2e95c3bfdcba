/**
 * The router model's contract between the packer, which trains it, and the edge, which runs it.
 */
export { FEATURES_VERSION, HASH_BUCKETS, MAX_CHARS, type RouterFeatures, routerFeatures } from './features.ts';
export { assertRouterFits, MAX_MANIFEST_BYTES, type RouterPart, routerLimit } from './limits.ts';
export {
  MAX_SEQUENCE_TOKENS,
  parseRouterManifest,
  type RouterManifest,
  type TransformerManifest,
} from './manifest.ts';
export { ROUTER_POINTER_KEY, type RouterPointer, routerObjectKey, routerPointerSchema } from './pointer.ts';
export { WordPiece } from './word-piece.ts';
