/**
 * Whether a fine-tune still speaks its base's tokens: an expert is served with the base's tokenizer.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { Problem, parseWith } from '@signpost/contracts';
import { type Checkpoint, readJson } from '@signpost/engine';
import { z } from 'zod';

const TOKENIZER_FILE = 'tokenizer.json';
const NAMED = 5;

const tokenId = z.number().int().nonnegative();
const tokenizerSchema = z.looseObject({
  model: z.looseObject({
    // A list where ids are positions (Unigram), a table elsewhere (BPE, WordPiece).
    vocab: z.union([z.record(z.string(), tokenId), z.array(z.tuple([z.string(), z.number()]))]),
  }),
  added_tokens: z.array(z.looseObject({ id: tokenId, content: z.string() })).nullish(),
});

/**
 * Compares the tokens behind every id. A folder without `tokenizer.json`, as of most adapters, has its base's.
 *
 * @throws Problem naming tokens that were added, or the first id that means something else.
 */
export async function checkTokenizer(base: Checkpoint, tuned: Checkpoint): Promise<void> {
  const [basePath, tunedPath] = [join(base.dir, TOKENIZER_FILE), join(tuned.dir, TOKENIZER_FILE)];
  if (!existsSync(basePath) || !existsSync(tunedPath)) return;
  const [before, after] = [await readTokens(basePath), await readTokens(tunedPath)];
  for (const [id, token] of before) {
    const other = after.get(id);
    if (other !== token) {
      const now = other === undefined ? 'nothing' : JSON.stringify(other);
      throw new Problem(`${tunedPath}: token ${id} is ${now}, the base's is ${JSON.stringify(token)}`);
    }
  }
  const added = [...after].filter(([id]) => !before.has(id)).map(([id, token]) => `${JSON.stringify(token)} (${id})`);
  if (added.length > 0) {
    const more = added.length > NAMED ? ` and ${added.length - NAMED} more` : '';
    throw new Problem(
      `${tunedPath} adds tokens that the base doesn't have: ${added.slice(0, NAMED).join(', ')}${more}; add them to the base and its embedding first`,
    );
  }
}

async function readTokens(path: string): Promise<Map<number, string>> {
  const { model, added_tokens } = parseWith(tokenizerSchema, await readJson(path), path);
  const tokens = new Map<number, string>();
  if (Array.isArray(model.vocab)) for (const [id, [token]] of model.vocab.entries()) tokens.set(id, token);
  else for (const [token, id] of Object.entries(model.vocab)) tokens.set(id, token);
  for (const { id, content } of added_tokens ?? []) tokens.set(id, content);
  return tokens;
}
