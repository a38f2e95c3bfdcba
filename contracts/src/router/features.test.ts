import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { HASH_BUCKETS, MAX_CHARS, routerFeatures } from './features.ts';

/** One token a word, by its length. */
const encode = (text: string) => text.split(/\s+/).flatMap((word) => (word === '' ? [] : [word.length]));
const hashesOf = (text: string) => [...routerFeatures(text, encode).hashIds];

describe('router features', () => {
  it('are bounded, whatever the text', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme', maxLength: 4_000 }), (text) => {
        const { tokenIds, hashIds } = routerFeatures(text, encode);
        expect(tokenIds.length).toBeGreaterThanOrEqual(1);
        expect(tokenIds.length).toBeLessThanOrEqual(256);
        expect(hashIds.length).toBeGreaterThanOrEqual(1);
        expect(hashIds.length).toBeLessThanOrEqual(399);
        for (const id of hashIds) expect(id >= 0 && id < HASH_BUCKETS).toBe(true);
      }),
    );
  });

  it('are a word each and a pair for each two neighbours', () => {
    const [write, a, poem, ...pairs] = hashesOf('Write a poem');
    expect(pairs).toHaveLength(2);
    expect(hashesOf('poem')).toEqual([poem]);
    expect(hashesOf('WRITE A')).toEqual([write, a, pairs[0]]);
    expect(new Set([write, a, poem, ...pairs]).size).toBe(5);
  });

  it('see that there is a number, not which', () => {
    expect(hashesOf('What is 12 + 7?')).toEqual(hashesOf('what is 9,3 + 105?'.replace(',3', '')));
    expect(hashesOf('12')).not.toEqual(hashesOf('twelve'));
  });

  it('stand for an empty text, too', () => {
    const { tokenIds, hashIds } = routerFeatures(' \n', encode);
    expect([...tokenIds]).toEqual([0]);
    expect([...hashIds]).toEqual([0]);
  });

  it('look at the beginning alone', () => {
    const begun = 'word '.repeat(Math.ceil(MAX_CHARS / 5));
    expect(hashesOf(`${begun} and more of it`)).toEqual(hashesOf(begun.slice(0, MAX_CHARS)));
  });

  it('are what their definition says, for any text', () => {
    fc.assert(
      fc.property(fc.oneof(fc.string({ maxLength: 400 }), fc.string({ unit: 'grapheme', maxLength: 400 })), (text) => {
        expect(hashesOf(text)).toEqual(hashesByDefinition(text));
      }),
      { numRuns: 1_000 },
    );
  });
});

/** Plainly, and slowly. */
function hashesByDefinition(text: string): number[] {
  const found = text.toLowerCase().match(/\p{L}+|\p{N}+|[^\s\p{L}\p{N}]/gu) ?? [];
  const words = found.slice(0, 200).map((word) => (/^\p{N}/u.test(word) ? '0' : word));
  const pairs = words.slice(1).map((word, i) => `${words[i]} ${word}`);
  const hashes = [...words, ...pairs].map((word) => {
    let hash = 0x811c9dc5;
    for (let i = 0; i < word.length; i++) hash = Math.imul(hash ^ word.charCodeAt(i), 0x01000193);
    return 1 + ((hash >>> 0) % (HASH_BUCKETS - 1));
  });
  return hashes.length > 0 ? hashes : [0];
}
