/**
 * `POST /v1/chat/completions`: the wire format around a generation.
 */
import type { ChatCompletion, ChatCompletionChunk, ChatRequest } from '@signpost/contracts';
import type { Tokenizer } from '@signpost/engine';
import type { Generation, GenerationFields } from './generation.ts';

/** Names one answer on the wire. */
export interface AnswerIdentity {
  readonly id: string;
  /** Seconds since the epoch. */
  readonly created: number;
  /** As the app asked for it. */
  readonly model: string;
}

export function chatPrompt(tokenizer: Tokenizer, { messages }: ChatRequest): number[] {
  return tokenizer.encodeChat(messages);
}

export function chatFields(request: ChatRequest): GenerationFields {
  const { model, temperature, top_p, seed, stop } = request;
  return {
    model,
    promptField: 'messages',
    temperature,
    top_p,
    seed,
    stop,
    maxTokens: request.max_completion_tokens ?? request.max_tokens ?? undefined,
  };
}

export async function chatCompletion(
  generation: Generation,
  identity: AnswerIdentity,
  signal: AbortSignal,
): Promise<ChatCompletion> {
  let content = '';
  let finish: ChatCompletion['choices'][number]['finish_reason'] = 'stop';
  for await (const piece of generation.pieces(signal)) {
    content += piece.text;
    finish = piece.finish ?? finish;
  }
  const choice = {
    index: 0 as const,
    message: { role: 'assistant' as const, content },
    logprobs: null,
    finish_reason: finish,
  };
  return { ...identity, object: 'chat.completion', choices: [choice], usage: generation.usage };
}

/** Role first, then text as it comes, then the reason it ended; usage after it where it was asked for. */
export async function* chatChunks(
  generation: Generation,
  identity: AnswerIdentity,
  includeUsage: boolean,
  signal: AbortSignal,
): AsyncGenerator<ChatCompletionChunk> {
  const usage = includeUsage ? { usage: null } : {};
  const chunk = (
    delta: { role?: 'assistant'; content?: string },
    finish: 'stop' | 'length' | null = null,
  ): ChatCompletionChunk => ({
    ...identity,
    object: 'chat.completion.chunk',
    choices: [{ index: 0, delta, logprobs: null, finish_reason: finish }],
    ...usage,
  });
  let isFirst = true;
  for await (const { text, finish } of generation.pieces(signal)) {
    // With the first token, not before: until then the edge may still choose another region.
    if (isFirst) yield chunk({ role: 'assistant', content: '' });
    isFirst = false;
    if (text !== '') yield chunk({ content: text });
    if (finish !== undefined) yield chunk({}, finish);
  }
  if (includeUsage) yield { ...identity, object: 'chat.completion.chunk', choices: [], usage: generation.usage };
}
