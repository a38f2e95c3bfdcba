import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Checkpoint, openCheckpoint } from '@signpost/engine';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { GOLDEN } from './fixtures.ts';
import { checkTokenizer } from './tokenizer.ts';

interface TokenizerJson {
  added_tokens: { id: number; content: string }[];
  model: { vocab: Record<string, number> };
}

const TOKENIZER = join(import.meta.dirname, '../../../models/demo/base/tokenizer.json');

let dir: string;
let base: Checkpoint;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'signpost-tokenizer-'));
  base = await withTokenizer(() => {});
});
afterAll(() => rm(dir, { recursive: true }));

async function withTokenizer(change: (tokenizer: TokenizerJson) => void): Promise<Checkpoint> {
  const folder = await mkdtemp(join(dir, 'model-'));
  await cp(join(GOLDEN, 'merge/base'), folder, { recursive: true });
  const tokenizer = JSON.parse(await readFile(TOKENIZER, 'utf8')) as TokenizerJson;
  change(tokenizer);
  await writeFile(join(folder, 'tokenizer.json'), JSON.stringify(tokenizer));
  return openCheckpoint(folder);
}

describe('a fine-tune', () => {
  it('with the base’s tokens passes, in whatever order the file lists them, and so does one without a tokenizer', async () => {
    const reordered = await withTokenizer((tokenizer) => {
      tokenizer.model.vocab = Object.fromEntries(Object.entries(tokenizer.model.vocab).reverse());
    });
    await checkTokenizer(base, reordered);
    await checkTokenizer(base, await openCheckpoint(join(GOLDEN, 'merge/a')));
  });

  it('that swapped two tokens is refused with the first', async () => {
    const swapped = await withTokenizer(({ model }) => {
      const [first, second] = Object.entries(model.vocab).slice(100, 102);
      if (first !== undefined && second !== undefined)
        Object.assign(model.vocab, { [first[0]]: second[1], [second[0]]: first[1] });
    });
    await expect(checkTokenizer(base, swapped)).rejects.toThrow(/token \d+ is ".+", the base's is ".+"/);
  });

  it('that added tokens is refused with their names', async () => {
    const grown = await withTokenizer(({ added_tokens }) => {
      added_tokens.push({ id: 4096, content: '<|tool|>' }, { id: 4097, content: '<|result|>' });
    });
    await expect(checkTokenizer(base, grown)).rejects.toThrow(
      /adds tokens.*"<\|tool\|>" \(4096\), "<\|result\|>" \(4097\)/,
    );
  });
});
