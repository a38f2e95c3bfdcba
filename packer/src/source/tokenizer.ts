/**
 * How a fine-tune's tokenizer differs from its base's: an expert is served with the base's, changed by no more than that.
 */
import { join } from 'node:path';
import { type AddedToken, MAX_TOKENIZER_CHANGES, Problem, type TokenizerChanges } from '@signpost/contracts';
import { type Checkpoint, checkChatTemplate, readTokenizerFiles, type TokenizerFiles } from '@signpost/engine';

const TOKENIZER_FILE = 'tokenizer.json';
const NAMED = 5;

/**
 * What the fine-tune's tokenizer, chat template and end tokens have that the base's haven't; undefined when nothing. A file that the fine-tune lacks, as
 * adapters lack most, is the base's. Tokens that no row of its embedding stands for are left out: the model can't be told of them.
 *
 * @throws Problem naming the first id that means something else than in the base, tokens that were not added as such, or a template that can't be read.
 */
export async function tokenizerChanges(base: Checkpoint, tuned: Checkpoint): Promise<TokenizerChanges | undefined> {
  const [before, after] = [await readTokenizerFiles(base.dir), await readTokenizerFiles(tuned.dir)];
  const rows = tuned.config.vocabSize;
  const tokens = addedTokens(before, after, join(tuned.dir, TOKENIZER_FILE)).filter(({ id }) => id < rows);
  const whole = tokens.filter(({ single_word }) => single_word);
  if (whole.length > 0)
    throw new Problem(
      `${tuned.dir} adds tokens that stand for whole words only (single_word): ${named(whole.map(({ id, content }) => [id, content]))}; this engine's tokenizer would find them inside words, too`,
    );
  const changes: TokenizerChanges = {
    ...(tokens.length === 0 ? {} : { added_tokens: tokens }),
    ...change('chat_template', before.chatTemplate, after.chatTemplate),
    ...change('bos_token', before.bosToken, after.bosToken),
    ...change('eos_token', before.eosToken, after.eosToken),
    ...change(
      'eos_token_id',
      endIds(before),
      endIds(after, before)?.filter((id) => id < rows),
    ),
  };
  if (changes.chat_template !== undefined) checkChatTemplate(changes.chat_template, tuned.dir);
  if (JSON.stringify(changes).length > MAX_TOKENIZER_CHANGES)
    throw new Problem(
      `${tuned.dir}: its added tokens and chat template have more than ${MAX_TOKENIZER_CHANGES} characters of JSON`,
    );
  return Object.keys(changes).length === 0 ? undefined : changes;
}

function change<Key extends string, Value>(
  key: Key,
  before: Value | undefined,
  after: Value | undefined,
): Partial<Record<Key, Value>> {
  const isSame = after === undefined || JSON.stringify(before) === JSON.stringify(after);
  return isSame ? {} : ({ [key]: after } as Record<Key, Value>);
}

/** Ascending. Without a generation config of its own, a fine-tune has the base's unless its config says otherwise. */
function endIds(files: TokenizerFiles, base?: TokenizerFiles): number[] | undefined {
  const sorted = (ids: readonly number[] | undefined) => ids?.toSorted((a, b) => a - b);
  if (files.generationEosIds !== undefined) return sorted(files.generationEosIds);
  if (base !== undefined && JSON.stringify(sorted(files.configEosIds)) === JSON.stringify(sorted(base.configEosIds)))
    return endIds(base);
  return sorted(files.configEosIds);
}

function addedTokens(
  { tokenizer: base }: TokenizerFiles,
  { tokenizer: tuned }: TokenizerFiles,
  path: string,
): AddedToken[] {
  if (base === undefined || tuned === undefined) return [];
  const [before, after] = [tokensById(base), tokensById(tuned)];
  for (const [id, token] of before) {
    const other = after.get(id);
    if (other === token) continue;
    const now = other === undefined ? 'nothing' : JSON.stringify(other);
    throw new Problem(`${path}: token ${id} is ${now}, the base's is ${JSON.stringify(token)}`);
  }
  const added = (tuned.added_tokens ?? []).filter(({ id }) => !before.has(id)).sort((a, b) => a.id - b.id);
  const ids = new Set(added.map(({ id }) => id));
  const learned = [...after].filter(([id]) => !before.has(id) && !ids.has(id));
  if (learned.length > 0)
    throw new Problem(
      `${path} has a larger vocabulary than the base: ${named(learned)}; an expert can have tokens of its own only as added_tokens`,
    );
  const taken = new Map([...before].map(([id, token]) => [token, id]));
  const twice = added.filter(({ content }) => taken.has(content));
  if (twice.length > 0)
    throw new Problem(
      `${path} adds tokens that the base has by another id: ${named(twice.map(({ id, content }) => [id, content]))}`,
    );
  return added;
}

function named(tokens: readonly (readonly [number, string])[]): string {
  const more = tokens.length > NAMED ? ` and ${tokens.length - NAMED} more` : '';
  const list = tokens.slice(0, NAMED).map(([id, token]) => `${JSON.stringify(token)} (${id})`);
  return `${list.join(', ')}${more}`;
}

/** What each id stands for. */
export function tokensById({ model, added_tokens }: NonNullable<TokenizerFiles['tokenizer']>): Map<number, string> {
  const tokens = new Map<number, string>();
  if (Array.isArray(model.vocab)) for (const [id, [token]] of model.vocab.entries()) tokens.set(id, token);
  else for (const [token, id] of Object.entries(model.vocab)) tokens.set(id, token);
  for (const { id, content } of added_tokens ?? []) tokens.set(id, content);
  return tokens;
}
