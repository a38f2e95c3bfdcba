import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { AddedToken } from '@signpost/contracts';
import { Checkpoint, openCheckpoint } from '@signpost/engine';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { GOLDEN } from './fixtures.ts';
import { tokenizerChanges } from './tokenizer.ts';

interface TokenizerJson {
  added_tokens: (Partial<AddedToken> & { id: number; content: string })[];
  model: { vocab: Record<string, number> };
}

const DEMO = join(import.meta.dirname, '../../../models/demo/base');
const FLAGS = { single_word: false, lstrip: false, rstrip: true, normalized: false, special: true };

let dir: string;
let base: Checkpoint;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'signpost-tokenizer-'));
  base = await withTokenizer(() => {});
});
afterAll(() => rm(dir, { recursive: true }));

/** A small model that says it has the demo's tokenizer, with rows for all of its tokens and four more. */
async function withTokenizer(
  change: (tokenizer: TokenizerJson, config: Record<string, unknown>) => void,
  others: Readonly<Record<string, object | string>> = {},
): Promise<Checkpoint> {
  const folder = await mkdtemp(join(dir, 'model-'));
  await cp(join(GOLDEN, 'merge/base'), folder, { recursive: true });
  const [tokenizer, config] = await Promise.all(
    ['tokenizer.json', 'tokenizer_config.json'].map(async (name) =>
      JSON.parse(await readFile(join(DEMO, name), 'utf8')),
    ),
  );
  change(tokenizer, config);
  const files = { 'tokenizer.json': tokenizer, 'tokenizer_config.json': config, ...others };
  for (const [name, file] of Object.entries(files))
    await writeFile(join(folder, name), typeof file === 'string' ? file : JSON.stringify(file));
  const { config: own, tensors } = await openCheckpoint(folder);
  return new Checkpoint(folder, { ...own, vocabSize: 4100 }, tensors);
}

describe('a fine-tune', () => {
  it('with the base’s tokens changes nothing, in whatever order the file lists them, and neither does one without a tokenizer', async () => {
    const reordered = await withTokenizer((tokenizer) => {
      tokenizer.model.vocab = Object.fromEntries(Object.entries(tokenizer.model.vocab).reverse());
    });
    expect(await tokenizerChanges(base, reordered)).toBeUndefined();
    expect(await tokenizerChanges(base, await openCheckpoint(join(GOLDEN, 'merge/a')))).toBeUndefined();
  });

  it('has its own tokens by id, with their flags, but for those without a row', async () => {
    const grown = await withTokenizer(({ added_tokens }) => {
      const contents = { 4099: '<|result|>', 4096: '<|tool|>', 4100: '[PAD]' };
      for (const [id, content] of Object.entries(contents)) added_tokens.push({ id: Number(id), content, ...FLAGS });
    });
    expect(await tokenizerChanges(base, grown)).toEqual({
      added_tokens: [
        { id: 4096, content: '<|tool|>', ...FLAGS },
        { id: 4099, content: '<|result|>', ...FLAGS },
      ],
    });
  });

  it('has its own template and end tokens where they differ, from whichever file says so', async () => {
    const template = '{% for m in messages %}{{ m.content }}{% endfor %}';
    const configured = await withTokenizer((_, config) => {
      Object.assign(config, { chat_template: template, eos_token: { content: '<|user|>' } });
    });
    expect(await tokenizerChanges(base, configured)).toEqual({ chat_template: template, eos_token: '<|user|>' });
    const filed = await withTokenizer(() => {}, {
      'chat_template.jinja': template,
      'generation_config.json': { eos_token_id: [3, 1, 4100] },
    });
    expect(await tokenizerChanges(base, filed)).toEqual({ chat_template: template, eos_token_id: [1, 3] });
    const broken = await withTokenizer(() => {}, { 'chat_template.jinja': '{% for %}' });
    await expect(tokenizerChanges(base, broken)).rejects.toThrow(/the chat template can't be parsed/);
  });

  it('that swapped two tokens is refused with the first', async () => {
    const swapped = await withTokenizer(({ model }) => {
      const [first, second] = Object.entries(model.vocab).slice(100, 102);
      if (first !== undefined && second !== undefined)
        Object.assign(model.vocab, { [first[0]]: second[1], [second[0]]: first[1] });
    });
    await expect(tokenizerChanges(base, swapped)).rejects.toThrow(/token \d+ is ".+", the base's is ".+"/);
  });

  it('that lost a token, learned new ones, has one twice or one for whole words is refused with their names', async () => {
    const lost = await withTokenizer(({ model }) => {
      const [last] = Object.entries(model.vocab).find(([, id]) => id === 4095) ?? [];
      delete model.vocab[last ?? ''];
    });
    await expect(tokenizerChanges(base, lost)).rejects.toThrow(/token 4095 is nothing, the base's is ".+"/);
    const learned = await withTokenizer(({ model }) => Object.assign(model.vocab, { Signpost: 4096, wegweiser: 4097 }));
    await expect(tokenizerChanges(base, learned)).rejects.toThrow(
      /larger vocabulary than the base: "Signpost" \(4096\), "wegweiser" \(4097\); .* only as added_tokens/,
    );
    const words = await withTokenizer(({ added_tokens }) =>
      added_tokens.push({ id: 4096, content: 'wegweiser', ...FLAGS, single_word: true }),
    );
    await expect(tokenizerChanges(base, words)).rejects.toThrow(
      /whole words only \(single_word\): "wegweiser" \(4096\)/,
    );
    const twice = await withTokenizer(({ added_tokens }) => added_tokens.push({ id: 4096, content: '<|end|>' }));
    await expect(tokenizerChanges(base, twice)).rejects.toThrow(/the base has by another id: "<\|end\|>" \(4096\)/);
  });
});
