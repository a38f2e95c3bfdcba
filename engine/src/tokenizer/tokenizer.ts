/**
 * Text to token ids and back, by a checkpoint's own `tokenizer.json` and chat template.
 */
import { Template } from '@huggingface/jinja';
import { Tokenizer as HfTokenizer } from '@huggingface/tokenizers';
import { type ChatMessage, type ChatTool, Problem, type TokenizerChanges } from '@signpost/contracts';
import { CALL_MARKS, type ToolCallFormat, toolCallFormat } from '../grammar/tool-calls.ts';
import { readTokenizerFiles, type TokenizerFiles, type TokenizerJson } from './files.ts';
import { StreamDecoder } from './stream-decoder.ts';
import { tokenBytes } from './token-bytes.ts';

/** What a tokenizer is made of; with an expert's changes, its own. */
interface Parts extends Pick<TokenizerFiles, 'bosToken' | 'eosToken' | 'chatTemplate'> {
  readonly tokenizer: TokenizerJson;
  readonly config: object;
  readonly eosIds: readonly number[];
}

/** How many vocabularies are kept; those of experts in use stay with them. */
const MAX_EXTENDED = 8;

export class Tokenizer {
  readonly #tokenizer: HfTokenizer;
  readonly #template: Template | undefined;
  readonly #parts: Parts;
  readonly #dir: string;
  #bytes: readonly (Uint8Array | undefined)[] | undefined;
  /** With further tokens, by the JSON of those: a vocabulary is large, and many experts add the same. */
  readonly #extended: Map<string, HfTokenizer>;
  /** Tokens that end an answer: of `generation_config.json` and the tokenizer's own. */
  readonly eosIds: ReadonlySet<number>;
  /** What an answer was trained to end with: the tokenizer's own end token, else the first of `eosIds`. */
  readonly endOfTurn: number | undefined;

  private constructor(dir: string, tokenizer: HfTokenizer, parts: Parts, extended: Map<string, HfTokenizer>) {
    const { chatTemplate, eosToken, eosIds } = parts;
    this.#dir = dir;
    this.#tokenizer = tokenizer;
    this.#parts = parts;
    this.#extended = extended;
    this.#template = chatTemplate === undefined ? undefined : new Template(chatTemplate);
    const own = eosToken === undefined ? undefined : tokenizer.token_to_id(eosToken);
    this.eosIds = new Set(own === undefined ? eosIds : [...eosIds, own]);
    this.endOfTurn = own ?? eosIds[0];
  }

  /**
   * Loads `tokenizer.json`, `tokenizer_config.json`, and where they are there `generation_config.json` and `chat_template.jinja`.
   *
   * @throws Problem when a file is missing or malformed.
   */
  static async load(dir: string): Promise<Tokenizer> {
    const { tokenizer, config, generationEosIds, configEosIds, ...files } = await readTokenizerFiles(dir);
    if (tokenizer === undefined) throw new Problem(`${dir} has no tokenizer.json`);
    if (typeof config !== 'object' || config === null) throw new Problem(`${dir} has no tokenizer_config.json`);
    const parts = { ...files, tokenizer, config, eosIds: generationEosIds ?? configEosIds ?? [] };
    return new Tokenizer(dir, new HfTokenizer(tokenizer, config), parts, new Map());
  }

  /**
   * The tokenizer of an expert whose own differs from this one by `changes`.
   *
   * @throws Problem when its chat template can't be parsed.
   */
  withChanges(changes: TokenizerChanges | undefined): Tokenizer {
    if (changes === undefined) return this;
    const { chatTemplate, bosToken, eosToken, eosIds } = this.#parts;
    const parts = {
      ...this.#parts,
      chatTemplate: changes.chat_template ?? chatTemplate,
      bosToken: changes.bos_token ?? bosToken,
      eosToken: changes.eos_token ?? eosToken,
      eosIds: changes.eos_token_id ?? eosIds,
    };
    if (changes.chat_template !== undefined) checkChatTemplate(changes.chat_template, 'the expert');
    return new Tokenizer(this.#dir, this.#extendedBy(changes), parts, this.#extended);
  }

  #extendedBy({ added_tokens: added }: TokenizerChanges): HfTokenizer {
    if (added === undefined) return this.#tokenizer;
    const key = JSON.stringify(added);
    const { tokenizer, config } = this.#parts;
    const known = this.#extended.get(key);
    if (known !== undefined) return known;
    const added_tokens = [...(tokenizer.added_tokens ?? []), ...added];
    const extended = new HfTokenizer({ ...tokenizer, added_tokens }, config);
    const [oldest] = this.#extended.keys();
    if (this.#extended.size >= MAX_EXTENDED && oldest !== undefined) this.#extended.delete(oldest);
    this.#extended.set(key, extended);
    return extended;
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
    return this.#decode(ids, true);
  }

  /** Text of token ids, special ones included. */
  decodeAll(ids: readonly number[]): string {
    return this.#decode(ids, false);
  }

  #decode(ids: readonly number[], skip_special_tokens: boolean): string {
    // A vocabulary may be padded: rows that stand for nothing.
    const known = ids.filter((id) => this.#tokenizer.id_to_token(id) !== undefined);
    if (known.length === 0) return '';
    return this.#tokenizer.decode(known, { skip_special_tokens, clean_up_tokenization_spaces: false });
  }

  /** One token by itself, special ones included: for log-probabilities. */
  tokenText(id: number): string {
    return this.#decode([id], false);
  }

  /** One token's bytes: a character may span several tokens. */
  bytesOf(id: number): Uint8Array {
    this.#bytes ??= bytesOrNone(this.#parts.tokenizer, this.#dir);
    return this.#bytes[id] ?? new TextEncoder().encode(this.tokenText(id));
  }

  /** How the chat template has tools called; undefined where it doesn't take any. */
  get toolFormat(): ToolCallFormat | 'unknown' | undefined {
    return toolCallFormat(this.#parts.chatTemplate ?? '');
  }

  /** Whether the chat template knows what a tool answered, and which calls an assistant made. */
  get takesToolMessages(): boolean {
    return /tool_calls/.test(this.#parts.chatTemplate ?? '');
  }

  /**
   * Token ids of a conversation, ready for the assistant's turn.
   *
   * @throws Problem when there is no template, or it refuses the messages.
   */
  encodeChat(messages: readonly ChatMessage[], tools?: readonly ChatTool[]): number[] {
    // The template writes its own BOS where the model wants one.
    return this.encodePart(this.chatPrompt(messages, tools));
  }

  chatPrompt(messages: readonly ChatMessage[], tools?: readonly ChatTool[]): string {
    if (this.#template === undefined) throw new Problem(`${this.#dir} has no chat template; use /v1/completions`);
    try {
      return this.#template.render({
        messages: messages.map(templateMessage),
        // Some templates ask whether there are any by `tools is not none`.
        ...(tools === undefined || tools.length === 0 ? {} : { tools }),
        add_generation_prompt: true,
        bos_token: this.#parts.bosToken ?? '',
        eos_token: this.#parts.eosToken ?? '',
      });
    } catch (cause) {
      throw new Problem(`the chat template refused the messages: ${cause instanceof Error ? cause.message : cause}`, {
        cause,
      });
    }
  }

  /** The token that begins calls in this format, where it is a special one: no text, so that no grammar can spell it. */
  callMark(format: ToolCallFormat): number | undefined {
    const [mark = ''] = CALL_MARKS[format];
    const id = this.#tokenizer.token_to_id(mark);
    return id !== undefined && this.decode([id]) === '' ? id : undefined;
  }

  /** A decoder for ids that arrive one at a time. With a format of tool calls its special tokens are text, too. */
  stream(format?: ToolCallFormat): StreamDecoder {
    const marks = new Map<number, string>();
    for (const mark of format === undefined ? [] : CALL_MARKS[format]) {
      const id = this.#tokenizer.token_to_id(mark);
      if (id !== undefined) marks.set(id, mark);
    }
    return new StreamDecoder((ids) => this.decode(ids), marks);
  }
}

/** A message as templates expect it: arguments of calls as values, not as text. */
function templateMessage(message: ChatMessage): Record<string, unknown> {
  if (message.role !== 'assistant' || message.tool_calls == null) return { ...message };
  const tool_calls = message.tool_calls.map(({ function: { name, arguments: text }, ...call }) => {
    const parsed = parseArguments(text);
    return { ...call, function: { name, arguments: parsed } };
  });
  return { ...message, tool_calls };
}

function parseArguments(text: string): unknown {
  try {
    return text === '' ? {} : JSON.parse(text);
  } catch (cause) {
    throw new Problem(`the arguments of a tool call are not JSON: ${text.slice(0, 100)}`, { cause });
  }
}

function bytesOrNone(tokenizer: TokenizerJson, where: string): readonly (Uint8Array | undefined)[] {
  try {
    return tokenBytes(tokenizer, where);
  } catch (error) {
    if (error instanceof Problem) return [];
    throw error;
  }
}

/** @throws Problem when it is not the Jinja that this engine renders. */
export function checkChatTemplate(template: string, where: string): void {
  try {
    new Template(template);
  } catch (cause) {
    throw new Problem(
      `${where}: the chat template can't be parsed: ${cause instanceof Error ? cause.message : cause}`,
      {
        cause,
      },
    );
  }
}
