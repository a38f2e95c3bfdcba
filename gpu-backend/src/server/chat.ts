/**
 * `POST /v1/chat/completions`: the wire format around a generation.
 */
import type { ChatChoice, ChatCompletion, ChatCompletionChunk, ChatRequest } from '@signpost/contracts';
import { ChatWriter } from './chat-writer.ts';
import { requestedFormat } from './formats.ts';
import { type Addressee, Generation, type GenerationDeps, type RequestLimits } from './generation.ts';
import { type ToolUse, toolUse } from './tools.ts';

/** Names one answer on the wire. */
export interface AnswerIdentity {
  readonly id: string;
  /** Seconds since the epoch. */
  readonly created: number;
  /** As the app asked for it. */
  readonly model: string;
}

export interface Chat {
  readonly generation: Generation;
  readonly request: ChatRequest;
  readonly use: ToolUse | undefined;
}

/** @throws ApiError (400) for what can't be answered. */
export function prepareChat(
  deps: GenerationDeps,
  addressee: Addressee,
  request: ChatRequest,
  limits: RequestLimits,
): Chat {
  const { tokenizer } = addressee;
  const use = toolUse(tokenizer, request);
  const prompt = tokenizer.encodeChat(request.messages, use?.tools);
  const asked = {
    fields: request,
    promptField: 'messages' as const,
    prompts: [use?.grammar === undefined || use.mark === undefined ? prompt : [...prompt, use.mark]],
    maxTokens: request.max_completion_tokens ?? request.max_tokens ?? undefined,
    scoresPrompt: false,
    logprobs: request.logprobs === true ? (request.top_logprobs ?? 0) : undefined,
    grammar: use?.grammar ?? requestedFormat(request),
    toolFormat: use?.format,
  };
  return { generation: Generation.prepare(deps, addressee, asked, limits), request, use };
}

export async function chatCompletion(
  { generation, request, use }: Chat,
  identity: AnswerIdentity,
  signal: AbortSignal,
): Promise<ChatCompletion> {
  const answers = chatWriters({ generation, request, use }).map((writer) => ({ writer, whole: writer.whole() }));
  for await (const piece of generation.pieces(signal)) answers[piece.index]?.whole.add(piece);
  return {
    ...identity,
    object: 'chat.completion',
    choices: answers.map(({ whole }, index): ChatChoice => ({ index, ...whole.choice() })),
    usage: generation.usage,
    ...(request.return_token_ids === true ? { prompt_token_ids: generation.promptOf(0) } : {}),
  };
}

/** Of each choice: role first, then text or calls as they come, with the last of them the reason it ended; usage after them where it was asked for. */
export async function* chatChunks(
  chat: Chat,
  identity: AnswerIdentity,
  signal: AbortSignal,
): AsyncGenerator<ChatCompletionChunk> {
  const { generation, request } = chat;
  const includeUsage = request.stream_options?.include_usage === true;
  const usage = includeUsage ? { usage: null } : {};
  const object = 'chat.completion.chunk' as const;
  const writers = chatWriters(chat);
  // The resumed part of an answer has had its beginning.
  const begun = new Set(request.resume_token_ids == null ? [] : writers.keys());
  for await (const piece of generation.pieces(signal)) {
    const { index } = piece;
    // With the first token, not before: until then the edge may still choose another region.
    if (!begun.has(index)) {
      begun.add(index);
      const choice = { index, delta: { role: 'assistant' as const, content: '' }, logprobs: null, finish_reason: null };
      const promptIds = request.return_token_ids === true ? { prompt_token_ids: generation.promptOf(index) } : {};
      yield { ...identity, object, choices: [choice], ...usage, ...promptIds };
    }
    const choice = writers[index]?.choice(piece);
    if (choice !== undefined) yield { ...identity, object, choices: [{ index, ...choice }], ...usage };
  }
  if (includeUsage) yield { ...identity, object, choices: [], usage: generation.usage };
}

function chatWriters({ generation, request, use }: Chat): ChatWriter[] {
  return Array.from({ length: generation.choices }, () => new ChatWriter(generation.tokenizer, request, use));
}
