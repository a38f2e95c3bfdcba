/**
 * A tokenizer with an expert's changes, against transformers with the same tokens in its own files.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type ChatMessage, type TokenizerChanges, tokenizerChangesSchema } from '@signpost/contracts';
import { describe, expect, it } from 'vitest';
import { Tokenizer } from './tokenizer.ts';

interface Golden {
  readonly changes: TokenizerChanges;
  readonly cases: readonly { readonly text: string; readonly ids: readonly number[]; readonly decoded: string }[];
  readonly chat: { readonly messages: readonly ChatMessage[]; readonly text: string; readonly ids: readonly number[] };
}

const ROOT = join(import.meta.dirname, '../../..');
const golden = JSON.parse(readFileSync(join(ROOT, 'test/golden/added-tokens.json'), 'utf8')) as Golden;
const changes = tokenizerChangesSchema.parse(golden.changes);
const base = await Tokenizer.load(join(ROOT, 'models/demo/base'));

describe('an expert’s tokenizer', () => {
  it('gives the ids and texts of transformers', () => {
    const own = base.withChanges(changes);
    for (const { text, ids, decoded } of golden.cases) {
      expect(own.encodePart(text), JSON.stringify(text)).toEqual(ids);
      expect(own.decode(ids), JSON.stringify(text)).toBe(decoded);
    }
  });

  it('renders its own template and ends where it says, and leaves the base as it was', () => {
    const { messages, text, ids } = golden.chat;
    const before = [base.chatPrompt(messages), base.encodePart('<|tool|>'), [...base.eosIds]];
    const own = base.withChanges(changes);
    expect(own.chatPrompt(messages)).toBe(text);
    expect(own.encodeChat(messages)).toEqual(ids);
    expect([[...own.eosIds].sort(), own.endOfTurn]).toEqual([[0, 4097], 4097]);
    expect([base.chatPrompt(messages), base.encodePart('<|tool|>'), [...base.eosIds]]).toEqual(before);
    expect(base.withChanges(undefined)).toBe(base);
  });

  it('writes nothing for an id that stands for no token', () => {
    expect(base.withChanges(changes).decode([4103, 4096, 75])).toBe(base.decode([75]));
    expect(base.tokenText(4096)).toBe('');
  });
});
