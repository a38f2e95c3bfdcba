import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { toolCallFormat } from '../grammar/tool-calls.ts';
import { readTokenizerFiles } from './files.ts';
import { tokenBytes } from './token-bytes.ts';
import { Tokenizer } from './tokenizer.ts';

const BASE = join(import.meta.dirname, '../../../models/demo/base');
const text = (bytes: Iterable<number>) => new TextDecoder().decode(Uint8Array.from(bytes));

describe('bytes of tokens', () => {
  it('put together are the text, also of characters that span tokens', async () => {
    const tokenizer = await Tokenizer.load(BASE);
    const written = 'Köln, 日本 and 🙂!\n\tdef f(x): return x';
    const ids = tokenizer.encodePart(written);
    expect(text(ids.flatMap((id) => [...tokenizer.bytesOf(id)]))).toBe(written);
    expect(text(tokenizer.bytesOf(tokenizer.endOfTurn ?? -1))).toBe('<|end|>');
  });

  it('of a byte-level vocabulary are all 256, and none for special tokens', async () => {
    const { tokenizer } = await readTokenizerFiles(BASE);
    const bytes = tokenizer === undefined ? [] : tokenBytes(tokenizer, BASE);
    const single = new Set(bytes.flatMap((token) => (token?.length === 1 ? [...token] : [])));
    expect(single.size).toBe(256);
    expect(bytes[0]).toBeUndefined();
  });

  it('of a SentencePiece vocabulary have spaces and bytes for its marks', () => {
    const vocab = { '\u2581the': 0, '<0x0A>': 1, é: 2, '<s>': 3, '<call>': 4 };
    const token = { single_word: false, lstrip: false, rstrip: false, normalized: false };
    const added_tokens = [
      { ...token, id: 3, content: '<s>', special: true },
      { ...token, id: 4, content: '<call>', special: false },
    ];
    const decoder = { type: 'Sequence', decoders: [{ type: 'ByteFallback' }] };
    const bytes = tokenBytes({ model: { vocab, byte_fallback: true }, added_tokens, decoder }, 'x');
    expect(bytes.map((own) => own && text(own))).toEqual([' the', '\n', 'é', undefined, '<call>']);
    expect(() => tokenBytes({ model: { vocab }, decoder: { type: 'WordPiece' } }, 'x')).toThrow(/x: its decoder/);
  });
});

it.each([
  ['{{ messages }}', undefined],
  ['{% if tools %}<tool_call>{% endif %}', 'hermes'],
  ['{% if tools %}[AVAILABLE_TOOLS]{% endif %}[TOOL_CALLS]', 'mistral'],
  ["{% if tools is not none %}{{ '<|python_tag|>' }}{% endif %}", 'llama3'],
  ['{% if tools %}<function>{% endif %}', 'unknown'],
])('the format of tool calls is told from the template %s', (template, format) => {
  expect(toolCallFormat(template)).toBe(format);
});
