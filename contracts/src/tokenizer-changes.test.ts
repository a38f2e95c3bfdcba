import { describe, expect, it } from 'vitest';
import {
  type AddedToken,
  leadingVocabulary,
  type TokenizerChanges,
  tokenizerChangesSchema,
} from './tokenizer-changes.ts';

const token = (id: number): AddedToken => ({
  id,
  content: `<${id}>`,
  single_word: false,
  lstrip: false,
  rstrip: false,
  normalized: false,
  special: true,
});
const expert = (name: string, addedRows = 0, changes?: TokenizerChanges) => ({ name, addedRows, changes });

describe('of several experts', () => {
  it('the one that adds tokens leads, whether they need rows or not, else the first', () => {
    const [plain, own] = [expert('plain'), expert('own', 0, { chat_template: 'x' })];
    expect(leadingVocabulary([])).toBeUndefined();
    expect(leadingVocabulary([plain, own])).toBe(plain);
    for (const adding of [expert('padded', 2), expert('in place', 0, { added_tokens: [token(7)] })])
      expect(leadingVocabulary([plain, own, adding])).toBe(adding);
  });

  it('two that add tokens are refused by name', () => {
    const both = [expert('a', 1), expert('b'), expert('c', 0, { added_tokens: [token(7)] })];
    expect(() => leadingVocabulary(both)).toThrow(/^a and c both add tokens/);
  });
});

it('tokens stand by rising id, each once', () => {
  const parse = (...ids: number[]) => tokenizerChangesSchema.safeParse({ added_tokens: ids.map(token) }).success;
  expect([parse(4, 5, 9), parse(5, 4), parse(4, 4), parse()]).toEqual([true, false, false, false]);
});
