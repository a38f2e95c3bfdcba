import { join } from 'node:path';
import fc from 'fast-check';
import { beforeAll, describe, expect, it } from 'vitest';
import { Tokenizer } from './tokenizer.ts';

let tokenizer: Tokenizer;
beforeAll(async () => {
  tokenizer = await Tokenizer.load(join(import.meta.dirname, '../../../models/demo/base'));
});

function streamed(ids: readonly number[]): string[] {
  const stream = tokenizer.stream();
  return [...ids.map((id) => stream.push(id)), stream.flush()];
}

describe('a stream decoder', () => {
  it('gives the text that decoding at once gives, for any text', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme', maxLength: 40 }), (text) => {
        const ids = tokenizer.encode(text);
        expect(streamed(ids).join('')).toBe(tokenizer.decode(ids));
      }),
    );
  });

  it('holds back a character until it is whole', () => {
    const ids = tokenizer.encode('🙂');
    expect(ids.length).toBeGreaterThan(1);
    expect(streamed(ids)).toEqual([...ids.slice(1).map(() => ''), '🙂', '']);
  });

  it('does not hold back garbage for ever', () => {
    const [first = 0] = tokenizer.encode('🙂');
    const parts = streamed(Array.from({ length: 40 }, () => first));
    expect(parts.slice(0, 20).join('')).not.toBe('');
  });
});

describe('a chat template', () => {
  it('writes roles and opens the assistant turn', () => {
    expect(tokenizer.chatPrompt([{ role: 'user', content: 'hi' }])).toBe('<|user|>hi<|end|><|assistant|>');
    expect(tokenizer.tokenText(tokenizer.endOfTurn ?? -1)).toBe('<|end|>');
  });

  it('that is missing is said so', async () => {
    const { mkdtemp, cp, writeFile, rm } = await import('node:fs/promises');
    const dir = await mkdtemp(join((await import('node:os')).tmpdir(), 'signpost-tokenizer-'));
    await cp(join(import.meta.dirname, '../../../models/demo/base/tokenizer.json'), join(dir, 'tokenizer.json'));
    await writeFile(join(dir, 'tokenizer_config.json'), '{}');
    const bare = await Tokenizer.load(dir);
    expect(() => bare.encodeChat([{ role: 'user', content: 'hi' }])).toThrow(/has no chat template/);
    await rm(dir, { recursive: true });
  });
});
