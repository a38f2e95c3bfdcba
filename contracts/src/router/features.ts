/**
 * What the router model sees of a prompt. Trainer and edge share this file: a feature computed otherwise in one of them would be noise.
 *
 * Two lists of table rows: WordPiece tokens, looked up in distilled embeddings, and hashed words and word pairs. Time and memory are bounded by
 * the bounds below, whatever the prompt.
 */

import { FNV_OFFSET, fnv1a } from '../fnv.ts';
import { isAscii } from './ascii.ts';

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
  const tokens = encode(part);
  if (tokens.length > MAX_TOKENS) tokens.length = MAX_TOKENS;
  return {
    tokenIds: tokens.length > 0 ? new Int32Array(tokens) : Int32Array.of(PAD_TOKEN),
    hashIds: hashesOf(part),
  };
}

/** Buckets of the words, then of each two neighbours with a space between. */
function hashesOf(text: string): Int32Array {
  const lower = text.toLowerCase();
  const words = isAscii(lower) ? asciiWords(lower) : wordsOf(lower);
  const count = words.length / 2;
  if (count === 0) return Int32Array.of(0);
  const buckets = new Int32Array(2 * count - 1);
  let before = 0;
  for (let i = 0; i < count; i++) {
    const start = words[2 * i] ?? 0;
    const end = words[2 * i + 1] ?? 0;
    if (i > 0) buckets[count + i - 1] = bucketOf(hashWord(fnv1a(before, SPACE_CODE), lower, start, end));
    before = hashWord(FNV_OFFSET, lower, start, end);
    buckets[i] = bucketOf(before);
  }
  return buckets;
}

/** Where the first words, numbers and single other characters of a lower-cased text begin and end: (2 · words). */
function wordsOf(text: string): number[] {
  const words: number[] = [];
  for (const { 0: word, index } of text.matchAll(WORDS)) {
    if (words.length === 2 * MAX_WORDS) break;
    words.push(index, index + word.length);
  }
  return words;
}

/** The same, of a text in ASCII. */
function asciiWords(text: string): number[] {
  const words: number[] = [];
  for (let at = 0; at < text.length && words.length < 2 * MAX_WORDS; ) {
    const kind = KINDS[text.charCodeAt(at)];
    let end = at + 1;
    if (kind === LETTER || kind === DIGIT) while (KINDS[text.charCodeAt(end)] === kind) end++;
    if (kind !== SPACE) words.push(at, end);
    at = end;
  }
  return words;
}

const WORDS = /\p{L}+|\p{N}+|[^\s\p{L}\p{N}]/gu;
/** What an ASCII character is in a lower-cased text. */
const OTHER = 0;
const SPACE = 1;
const LETTER = 2;
const DIGIT = 3;
const KINDS = Uint8Array.from({ length: 128 }, (_, code) => {
  const character = String.fromCharCode(code);
  if (/\s/.test(character)) return SPACE;
  if (/[a-z]/.test(character)) return LETTER;
  return /\d/.test(character) ? DIGIT : OTHER;
});

const SPACE_CODE = 32;
const ZERO_CODE = 48;
const NUMBER = /^\p{N}/u;

/** Goes on with a hash. Numbers are all the same: their size says little about what is asked. */
function hashWord(hash: number, text: string, start: number, end: number): number {
  const first = text.charCodeAt(start);
  if (first < 128 ? KINDS[first] === DIGIT : NUMBER.test(text.slice(start, end))) return fnv1a(hash, ZERO_CODE);
  let next = hash;
  for (let i = start; i < end; i++) next = fnv1a(next, text.charCodeAt(i));
  return next;
}

/** Folded into buckets 1 … 65,535. */
function bucketOf(hash: number): number {
  return 1 + ((hash >>> 0) % (HASH_BUCKETS - 1));
}
