/**
 * One choice of a chat answer in OpenAI's format: its pieces as what chunks add to the message, or put together.
 */
import { randomInt } from 'node:crypto';
import type {
  ChatChoice,
  ChatCompletionChunk,
  ChatDelta,
  ChatLogprobs,
  ChatRequest,
  FinishReason,
  TokenLogprob,
  ToolCall,
} from '@signpost/contracts';
import type { Tokenizer } from '@signpost/engine';
import type { Piece } from './choice.ts';
import { type AnswerPart, ToolCallParser } from './tool-calls.ts';
import type { ToolUse } from './tools.ts';

type CallDelta = NonNullable<ChatDelta['tool_calls']>[number];
type ChunkChoice = Omit<ChatCompletionChunk['choices'][number], 'index'>;

export class ChatWriter {
  readonly #tokenizer: Tokenizer;
  readonly #wantsLogprobs: boolean;
  readonly #wantsTokens: boolean;
  readonly #parser: ToolCallParser | undefined;
  readonly #maxCalls: number;
  /** Index of the call that arguments belong to. */
  #call = -1;

  constructor(tokenizer: Tokenizer, request: ChatRequest, use: ToolUse | undefined) {
    this.#tokenizer = tokenizer;
    this.#wantsLogprobs = request.logprobs === true;
    this.#wantsTokens = request.return_token_ids === true;
    const isInCall = use?.grammar !== undefined && use.mark !== undefined;
    this.#parser = use && new ToolCallParser(use.format, isInCall ? 'in call' : 'in text');
    this.#maxCalls = use?.maxCalls ?? 0;
  }

  /**
   * What a piece adds, in one: a stream cut between two chunks has all of a token or nothing of it. Undefined where it only adds text that isn't certain
   * yet.
   */
  choice(piece: Piece): ChunkChoice | undefined {
    const delta = this.#delta(piece);
    if (piece.isReplayed === true) return undefined;
    const logprobs = this.#logprobs(piece);
    const tokens = this.#wantsTokens && piece.token !== undefined ? { token_ids: [piece.token.id] } : {};
    const finish_reason = piece.finish === undefined ? null : this.#finish(piece.finish);
    const isTold = logprobs !== null || 'token_ids' in tokens;
    if (delta === undefined && !isTold && finish_reason === null) return undefined;
    // A token that is told of has a chunk, even where its text is held back.
    return { delta: delta ?? (isTold ? { content: '' } : {}), logprobs, finish_reason, ...tokens };
  }

  /** Collects all pieces. */
  whole(): { add(piece: Piece): void; choice(): Omit<ChatChoice, 'index'> } {
    let content = '';
    let finish: FinishReason = 'stop';
    const calls: { id: string; name: string; arguments: string }[] = [];
    const logprobs: ChatLogprobs['content'][number][] = [];
    const tokens: number[] = [];
    const add = (piece: Piece) => {
      const added = this.choice(piece);
      if (added === undefined) return;
      content += added.delta.content ?? '';
      for (const { index, id, function: part } of added.delta.tool_calls ?? []) {
        const call = calls[index] ?? { id: id ?? '', name: part.name ?? '', arguments: '' };
        calls[index] = call;
        call.arguments += part.arguments;
      }
      logprobs.push(...(added.logprobs?.content ?? []));
      tokens.push(...(added.token_ids ?? []));
      finish = added.finish_reason ?? finish;
    };
    const choice = () => {
      const tool_calls = calls.map(({ id, ...called }): ToolCall => ({ id, type: 'function', function: called }));
      return {
        message: {
          role: 'assistant' as const,
          content: content === '' && tool_calls.length > 0 ? null : content,
          refusal: null,
          ...(tool_calls.length > 0 ? { tool_calls } : {}),
        },
        logprobs: this.#wantsLogprobs ? { content: logprobs, refusal: null } : null,
        finish_reason: finish,
        ...(this.#wantsTokens ? { token_ids: tokens } : {}),
      };
    };
    return { add, choice };
  }

  #delta({ text, finish }: Piece): ChatDelta | undefined {
    const parser = this.#parser;
    if (parser === undefined) return text === '' ? undefined : { content: text };
    let content = '';
    const calls: CallDelta[] = [];
    for (const part of [...parser.push(text), ...(finish === undefined ? [] : parser.flush())]) {
      if (part.kind === 'text') content += part.text;
      else this.#addToCalls(part, calls);
    }
    if (content === '' && calls.length === 0) return undefined;
    return { ...(content === '' ? {} : { content }), ...(calls.length === 0 ? {} : { tool_calls: calls }) };
  }

  #addToCalls(part: Exclude<AnswerPart, { kind: 'text' }>, calls: CallDelta[]): void {
    if (part.kind === 'call') this.#call++;
    const index = this.#call;
    if (index >= this.#maxCalls) return;
    if (part.kind === 'call') {
      calls.push({ index, id: callId(), type: 'function', function: { name: part.name, arguments: '' } });
      return;
    }
    const last = calls.at(-1);
    if (last?.index !== index) calls.push({ index, function: { arguments: part.text } });
    else
      calls[calls.length - 1] = {
        ...last,
        function: { ...last.function, arguments: last.function.arguments + part.text },
      };
  }

  #finish(reason: Exclude<FinishReason, 'tool_calls'>): FinishReason {
    return reason === 'stop' && this.#call >= 0 ? 'tool_calls' : reason;
  }

  #logprobs({ token }: Piece): ChatLogprobs | null {
    if (!this.#wantsLogprobs || token?.score === undefined) return null;
    const { logprob, top } = token.score;
    const entry = {
      ...this.#scored(token.id, logprob),
      top_logprobs: top.map((other) => this.#scored(other.id, other.logprob)),
    };
    return { content: [entry], refusal: null };
  }

  #scored(id: number, logprob: number): TokenLogprob {
    return { token: this.#tokenizer.tokenText(id), logprob: finite(logprob), bytes: [...this.#tokenizer.bytesOf(id)] };
  }
}

/** JSON has no infinities; OpenAI and vLLM say −9999 for what can't be. */
export function finite(logprob: number): number {
  return Math.max(logprob, -9999);
}

const CALL_ID_CHARS = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789';

/** Nine letters and digits: what Mistral's templates take; others take anything. */
function callId(): string {
  return Array.from({ length: 9 }, () => CALL_ID_CHARS[randomInt(CALL_ID_CHARS.length)]).join('');
}
