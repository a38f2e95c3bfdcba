import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Tokenizer } from '@huggingface/tokenizers';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { WordPiece } from './word-piece.ts';

const read = () =>
  JSON.parse(readFileSync(join(import.meta.dirname, '../../../models/router/tokenizer.json'), 'utf8')) as {
    normalizer: { lowercase: boolean };
    model: { vocab: Record<string, number>; unk_token: string; max_input_chars_per_word: number };
  };
const wordPiece = new WordPiece(read());
const library = new Tokenizer(read(), {});
const theirs = (text: string) => library.encode(text, { add_special_tokens: false }).ids;

/** Special tokens are text to us. */
const hasNone = (text: string) => !/\[(PAD|UNK|CLS|SEP|MASK)\]/.test(text);
const anyText = fc.oneof(
  fc.string({ maxLength: 300 }),
  fc.string({ unit: 'grapheme', maxLength: 200 }),
  fc.string({ unit: 'binary', maxLength: 200 }),
  fc
    .array(fc.constantFrom(...Object.keys(read().model.vocab), ' ', '\t', '\u00ad', 'É', '東', '😀', '##'), {
      maxLength: 40,
    })
    .map((parts) => parts.join('')),
);

describe('word pieces', () => {
  it('are those of the tokenizers library, for any text', () => {
    fc.assert(
      fc.property(anyText.filter(hasNone), (text) => {
        expect(wordPiece.encode(text)).toEqual(theirs(text));
      }),
      { numRuns: 2_000 },
    );
  });

  it.each([
    'What is 17 plus 25?',
    "Crème brûlée isn't naïve — it's “déjà vu”…",
    'def f(x):\n\treturn x**2  # 二乗 ｘ',
    `${'a'.repeat(100)} ${'b'.repeat(101)} ${'é'.repeat(100)}`,
    'tab\u000bfeed\u000cnul\0 soft\u00adhyphen\ufffd zero\u200bwidth\ufeff',
    'Ⅷ ² ﬁ İstanbul ǅ 𝔘𝔫𝔦 👩‍👩‍👧',
  ])('of %j', (text) => {
    expect(wordPiece.encode(text)).toEqual(theirs(text));
  });

  it('take a special token for text', () => {
    expect(wordPiece.encode('[SEP]')).toEqual(theirs('[ sep ]'));
  });

  it('are refused of another kind of tokenizer, by name', () => {
    const cased = { ...read(), normalizer: { ...read().normalizer, lowercase: false } };
    expect(() => new WordPiece(cased, 'mine.json')).toThrow(/mine\.json.*normalizer\.lowercase/);
    const nameless = { ...read(), model: { ...read().model, unk_token: '[NONE]' } };
    expect(() => new WordPiece(nameless)).toThrow(/unk_token \[NONE\] is not in its vocabulary/);
    expect(() => new WordPiece(null)).toThrow(/tokenizer\.json/);
  });
});
