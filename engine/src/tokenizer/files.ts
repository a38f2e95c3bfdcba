/**
 * The files of a checkpoint folder that say how text becomes tokens and where an answer ends.
 */
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type AddedToken, parseWith } from '@signpost/contracts';
import { z } from 'zod';
import { readJson } from '../read-json.ts';

const TOKENIZER_FILE = 'tokenizer.json';
const CONFIG_FILE = 'tokenizer_config.json';
const TEMPLATE_FILE = 'chat_template.jinja';

const tokenId = z.number().int().nonnegative();
const flag = z.boolean().default(false);
const addedTokenSchema = z.object({
  id: tokenId,
  content: z.string(),
  single_word: flag,
  lstrip: flag,
  rstrip: flag,
  normalized: flag,
  special: flag,
}) satisfies z.ZodType<AddedToken>;
const tokenizerSchema = z.looseObject({
  model: z.looseObject({
    // A list where ids are positions (Unigram), a table elsewhere (BPE, WordPiece).
    vocab: z.union([z.record(z.string(), tokenId), z.array(z.tuple([z.string(), z.number()]))]),
  }),
  added_tokens: z.array(addedTokenSchema).nullish(),
});
export type TokenizerJson = z.output<typeof tokenizerSchema>;

const token = z.union([z.string(), z.looseObject({ content: z.string() }).transform((added) => added.content)]);
const configSchema = z.looseObject({
  bos_token: token.nullish(),
  eos_token: token.nullish(),
  chat_template: z.union([z.string(), z.array(z.looseObject({ name: z.string(), template: z.string() }))]).nullish(),
});
const endSchema = z.looseObject({
  eos_token_id: z.union([tokenId.transform((id) => [id]), z.array(tokenId)]).nullish(),
});

export interface TokenizerFiles {
  /** `tokenizer.json`; undefined where the folder has none, as of most adapters. */
  readonly tokenizer: TokenizerJson | undefined;
  /** `tokenizer_config.json` as it stands. */
  readonly config: unknown;
  readonly bosToken: string | undefined;
  readonly eosToken: string | undefined;
  readonly chatTemplate: string | undefined;
  readonly generationEosIds: readonly number[] | undefined; // of `generation_config.json`
  readonly configEosIds: readonly number[] | undefined; // of `config.json`
}

/** @throws Problem when a file that is there is malformed. */
export async function readTokenizerFiles(dir: string): Promise<TokenizerFiles> {
  const [tokenizerPath, configPath] = [join(dir, TOKENIZER_FILE), join(dir, CONFIG_FILE)];
  const tokenizer = existsSync(tokenizerPath)
    ? parseWith(tokenizerSchema, await readJson(tokenizerPath), tokenizerPath)
    : undefined;
  const rawConfig = existsSync(configPath) ? await readJson(configPath) : undefined;
  const config = rawConfig === undefined ? undefined : parseWith(configSchema, rawConfig, configPath);
  return {
    tokenizer,
    config: rawConfig,
    bosToken: config?.bos_token ?? undefined,
    eosToken: config?.eos_token ?? undefined,
    chatTemplate: await chatTemplate(dir, config?.chat_template ?? undefined),
    generationEosIds: await eosIds(join(dir, 'generation_config.json')),
    configEosIds: await eosIds(join(dir, 'config.json')),
  };
}

async function chatTemplate(
  dir: string,
  configured: z.output<typeof configSchema>['chat_template'],
): Promise<string | undefined> {
  const path = join(dir, TEMPLATE_FILE);
  if (existsSync(path)) return readFile(path, 'utf8');
  if (typeof configured === 'string') return configured;
  return configured?.find(({ name }) => name === 'default')?.template;
}

async function eosIds(path: string): Promise<readonly number[] | undefined> {
  if (!existsSync(path)) return undefined;
  return parseWith(endSchema, await readJson(path), path).eos_token_id ?? undefined;
}
