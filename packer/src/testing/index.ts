/**
 * For tests: fine-tunes that add tokens, made of checkpoints that are there.
 *
 * @module
 */
export { type Growth, growCheckpoint } from './grown.ts';
