/**
 * Text to token ids and back, by a checkpoint's own `tokenizer.json` and chat template.
 */
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Template } from '@huggingface/jinja';
import { Tokenizer as HfTokenizer } from '@huggingface/tokenizers';
import { type ChatMessage, Problem, parseWith } from '@signpost/contracts';
import { z } from 'zod';
import { readJson } from '../read-json.ts';
import { StreamDecoder } from './stream-decoder.ts';

const token = z.union([z.string(), z.looseObject({ content: z.string() }).transform((added) => added.content)]);
const tokenizerConfigSchema = z.looseObject({
  bos_token: token.nullish(),
  eos_token: token.nullish(),
  chat_template: z.union([z.string(), z.array(z.looseObject({ name: z.string(), template: z.string() }))]).nullish(),
});
const generationConfigSchema = z.looseObject({
  eos_token_id: z
    .union([
      z
        .number()
        .int()
        .transform((id) => [id]),
      z.array(z.number().int()),
    ])
    .nullish(),
});

export class Tokenizer {
  readonly #tokenizer: HfTokenizer;
  readonly #template: Template | undefined;
  readonly #special: { readonly bos_token: string; readonly eos_token: string };
  readonly #dir: string;
  /** Tokens that end an answer: of `generation_config.json` and the tokenizer's own. */
  readonly eosIds: ReadonlySet<number>;
  /** What an answer was trained to end with: the tokenizer's own end token, else the first of `eosIds`. */
  readonly endOfTurn: number | undefined;

  private constructor(
    dir: string,
    tokenizer: HfTokenizer,
    config: z.output<typeof tokenizerConfigSchema>,
    template: string | undefined,
    eosIds: readonly number[],
  ) {
    this.#dir = dir;
    this.#tokenizer = tokenizer;
    this.#template = template === undefined ? undefined : new Template(template);
    this.#special = { bos_token: config.bos_token ?? '', eos_token: config.eos_token ?? '' };
    const own = config.eos_token == null ? undefined : tokenizer.token_to_id(config.eos_token);
    this.eosIds = new Set(own === undefined ? eosIds : [...eosIds, own]);
    this.endOfTurn = own ?? eosIds[0];
  }

  /**
   * Loads `tokenizer.json`, `tokenizer_config.json`, and where they are there `generation_config.json` and `chat_template.jinja`.
   *
   * @throws Problem when a file is missing or malformed.
   */
  static async load(dir: string): Promise<Tokenizer> {
    const configPath = join(dir, 'tokenizer_config.json');
    const rawConfig = await readJson(configPath);
    const config = parseWith(tokenizerConfigSchema, rawConfig, configPath);
    const json = await readJson(join(dir, 'tokenizer.json'));
    if (typeof json !== 'object' || json === null) throw new Problem(`${join(dir, 'tokenizer.json')} is no tokenizer`);
    return new Tokenizer(
      dir,
      new HfTokenizer(json, rawConfig ?? {}),
      config,
      await chatTemplate(dir, config),
      await generationEos(dir),
    );
  }

  /** Token ids of a text; special tokens written in it are recognised, and the tokenizer's own frame (a leading BOS, say) is added. */
  encode(text: string): number[] {
    return this.#tokenizer.encode(text).ids;
  }

  /** Token ids of a text that goes on from others: without the frame. */
  encodePart(text: string): number[] {
    return this.#tokenizer.encode(text, { add_special_tokens: false }).ids;
  }

  /** Text of token ids; special tokens are left out. */
  decode(ids: readonly number[]): string {
    if (ids.length === 0) return '';
    return this.#tokenizer.decode([...ids], { skip_special_tokens: true, clean_up_tokenization_spaces: false });
  }

  /** One token by itself, special ones included: for log-probabilities. */
  tokenText(id: number): string {
    return this.#tokenizer.decode([id], { skip_special_tokens: false, clean_up_tokenization_spaces: false });
  }

  /** Token ids of a conversation, ready for the assistant's turn. @throws Problem when there is no template, or it refuses the messages. */
  encodeChat(messages: readonly ChatMessage[]): number[] {
    // The template writes its own BOS where the model wants one.
    return this.encodePart(this.chatPrompt(messages));
  }

  chatPrompt(messages: readonly ChatMessage[]): string {
    if (this.#template === undefined) throw new Problem(`${this.#dir} has no chat template; use /v1/completions`);
    try {
      return this.#template.render({
        messages: messages.map((message) => ({ ...message })),
        add_generation_prompt: true,
        ...this.#special,
      });
    } catch (cause) {
      throw new Problem(`the chat template refused the messages: ${cause instanceof Error ? cause.message : cause}`, {
        cause,
      });
    }
  }

  /** A decoder for ids that arrive one at a time. */
  stream(): StreamDecoder {
    return new StreamDecoder((ids) => this.decode(ids));
  }
}

async function chatTemplate(dir: string, config: z.output<typeof tokenizerConfigSchema>): Promise<string | undefined> {
  const path = join(dir, 'chat_template.jinja');
  if (existsSync(path)) return readFile(path, 'utf8');
  const template = config.chat_template ?? undefined;
  if (template === undefined || typeof template === 'string') return template;
  return template.find(({ name }) => name === 'default')?.template;
}

async function generationEos(dir: string): Promise<readonly number[]> {
  for (const file of ['generation_config.json', 'config.json']) {
    const path = join(dir, file);
    if (!existsSync(path)) continue;
    const { eos_token_id: ids } = parseWith(generationConfigSchema, await readJson(path), path);
    if (ids != null) return ids;
  }
  return [];
}
