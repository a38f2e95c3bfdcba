/**
 * What the router model sees of a prompt. Trainer and edge share this file: a feature computed otherwise in one of them would be noise.
 *
 * Two lists of table rows: WordPiece tokens, looked up in distilled embeddings, and hashed words and word pairs. Time and memory are bounded by
 * the bounds below, whatever the prompt.
 */

/** Raised when anything below changes what a text gives: models made for another version are refused. */
export const FEATURES_VERSION = 1;
/** Buckets of the hashed words; row 0 stands for a text without words. */
export const HASH_BUCKETS = 65_536;
/** UTF-16 units looked at, from the beginning: a prompt says what it wants early. */
export const MAX_CHARS = 1_500;
const MAX_TOKENS = 256;
const MAX_WORDS = 200;
/** WordPiece's padding token: what an empty text consists of. */
const PAD_TOKEN = 0;

export interface RouterFeatures {
  readonly tokenIds: Int32Array; // (1 … 256)
  readonly hashIds: Int32Array; // (1 … 399)
}

/** @param encode token ids of a text, without special tokens. */
export function routerFeatures(text: string, encode: (text: string) => number[]): RouterFeatures {
  const part = text.slice(0, MAX_CHARS);
  const tokens = encode(part).slice(0, MAX_TOKENS);
  const words = wordsOf(part);
  const pairs = words.slice(1).map((word, i) => `${words[i]} ${word}`);
  const hashes = [...words, ...pairs].map(bucketOf);
  return {
    tokenIds: Int32Array.from(tokens.length > 0 ? tokens : [PAD_TOKEN]),
    hashIds: Int32Array.from(hashes.length > 0 ? hashes : [0]),
  };
}

/** Lower-cased words, numbers (all the same: their size says little about what is asked) and single other characters. */
function wordsOf(text: string): string[] {
  const found = text.toLowerCase().match(/\p{L}+|\p{N}+|[^\s\p{L}\p{N}]/gu) ?? [];
  return found.slice(0, MAX_WORDS).map((word) => (/^\p{N}/u.test(word) ? '0' : word));
}

/** FNV-1a (32 bits) over UTF-16 units, folded into buckets 1 … 65,535. */
function bucketOf(word: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < word.length; i++) hash = Math.imul(hash ^ word.charCodeAt(i), 0x01000193);
  return 1 + ((hash >>> 0) % (HASH_BUCKETS - 1));
}
