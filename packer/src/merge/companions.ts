/**
 * What belongs to a checkpoint beside its weights: config and tokenizer files, the base's with an expert's changes in them.
 */
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import type { TokenizerChanges } from '@signpost/contracts';
import { readJson } from '@signpost/engine';

const TEMPLATE_FILE = 'chat_template.jinja';
/** Copied as they are where nothing changes them. */
const TOKENIZER_FILES = [
  'generation_config.json',
  'tokenizer.json',
  'tokenizer_config.json',
  'tokenizer.model',
  'special_tokens_map.json',
  'added_tokens.json',
  'vocab.json',
  'merges.txt',
  TEMPLATE_FILE,
];

type Json = Record<string, unknown>;

/**
 * Files by name.
 *
 * @param changes what the expert's tokenizer has that the base's, in `dir`, hasn't.
 * @param config what is to stand in `config.json`, over what the base has there.
 */
export async function companionFiles(
  dir: string,
  changes: TokenizerChanges = {},
  config: Json = {},
): Promise<Map<string, Uint8Array | string>> {
  const files = new Map<string, Uint8Array | string>();
  const edits = editsOf(changes, !existsSync(join(dir, TEMPLATE_FILE)));
  for (const name of TOKENIZER_FILES) {
    const path = join(dir, name);
    if (!existsSync(path)) continue;
    const [data, edit] = [await readFile(path), edits[name]];
    const before = edit === undefined ? undefined : (Object(await readJson(path)) as Json);
    const after = before === undefined ? undefined : edit?.(before);
    files.set(name, isDeepStrictEqual(before, after) ? data : toText(after));
  }
  const before = Object(await readJson(join(dir, 'config.json'))) as Json;
  files.set('config.json', toText({ ...before, ...endOf(changes), ...config }));
  const { chat_template: template } = changes;
  // A folder without a tokenizer config has nowhere else to say it.
  if (template !== undefined && (files.has(TEMPLATE_FILE) || !files.has('tokenizer_config.json')))
    files.set(TEMPLATE_FILE, template);
  return files;
}

/** Files that the changes concern, each as a function of what stands in it. */
function editsOf(changes: TokenizerChanges, isTemplateInConfig: boolean): Record<string, (json: Json) => Json> {
  const { added_tokens: added = [], chat_template: template, bos_token, eos_token } = changes;
  const special = {
    ...(bos_token === undefined ? {} : { bos_token }),
    ...(eos_token === undefined ? {} : { eos_token }),
  };
  return {
    'generation_config.json': (json) => ({ ...json, ...endOf(changes) }),
    'tokenizer.json': (json) => ({
      ...json,
      added_tokens: [...((json.added_tokens as unknown[] | null) ?? []), ...added],
    }),
    'tokenizer_config.json': (json) => ({
      ...json,
      ...special,
      ...(template === undefined || !isTemplateInConfig ? {} : { chat_template: template }),
      ...('added_tokens_decoder' in json
        ? {
            added_tokens_decoder: {
              ...Object(json.added_tokens_decoder),
              ...Object.fromEntries(added.map(({ id, ...token }) => [id, token])),
            },
          }
        : {}),
    }),
    'special_tokens_map.json': (json) => ({ ...json, ...special }),
    'added_tokens.json': (json) => ({ ...json, ...Object.fromEntries(added.map(({ id, content }) => [content, id])) }),
  };
}

function endOf({ eos_token_id: ids }: TokenizerChanges): Json {
  if (ids === undefined) return {};
  return { eos_token_id: ids.length === 1 ? ids[0] : ids };
}

function toText(value: unknown): string {
  return `${JSON.stringify(value, null, 2)}\n`;
}
