/**
 * An answer that was kept, as a response: whole or as a stream, in the shape in which regions answer.
 */
import type { ChatCompletion, ChatCompletionChunk, Completion, FinishReason, Usage } from '@signpost/contracts';
import type { Ask } from '../ask/ask.ts';
import { DONE, eventOf } from '../forward/sse-events.ts';
import { wantsUsage } from '../forward/usage.ts';

/** As it is kept. */
export interface KeptAnswer {
  readonly text: string;
  readonly finishReason: string;
  readonly model: string;
  readonly promptTokens: number;
  readonly completionTokens: number;
  /** `x-signpost-digest`. */
  readonly digests: string | null;
  /** Milliseconds since the epoch. */
  readonly keptAt: number;
}

/** @param id of this answer: another one than the first had. */
export function replay(kept: KeptAnswer, { path, delivery, body }: Ask, id: string, now: number): Response {
  const identity = { created: Math.floor(now / 1000), model: kept.model };
  const said = path === '/v1/completions' ? completion(kept, { ...identity, id }) : chat(kept, { ...identity, id });
  const headers = {
    age: String(Math.max(0, Math.floor((now - kept.keptAt) / 1000))),
    ...(kept.digests === null ? {} : { 'x-signpost-digest': kept.digests }),
  };
  if (delivery === 'whole') return Response.json(said.whole, { headers });
  const isUsageWanted = wantsUsage(body);
  const chunks = said.chunks.map((chunk) => eventOf(isUsageWanted ? { ...chunk, usage: null } : chunk));
  const usage = isUsageWanted ? [eventOf({ ...said.chunks[0], choices: [], usage: usageOf(kept) })] : [];
  return new Response([...chunks, ...usage, `data: ${DONE}\n\n`].join(''), {
    headers: { 'content-type': 'text/event-stream', 'cache-control': 'no-cache', ...headers },
  });
}

interface Identity {
  readonly id: string;
  readonly created: number;
  readonly model: string;
}

function chat(kept: KeptAnswer, { id, ...rest }: Identity) {
  const identity = { id: `chatcmpl-${id}`, ...rest };
  const finish_reason = kept.finishReason as FinishReason;
  const whole: ChatCompletion = {
    ...identity,
    object: 'chat.completion',
    choices: [
      {
        index: 0,
        message: { role: 'assistant', content: kept.text, refusal: null },
        logprobs: null,
        finish_reason,
      },
    ],
    usage: usageOf(kept),
  };
  const chunk = (
    delta: ChatCompletionChunk['choices'][number]['delta'],
    finish: FinishReason | null,
  ): ChatCompletionChunk => ({
    ...identity,
    object: 'chat.completion.chunk',
    choices: [{ index: 0, delta, logprobs: null, finish_reason: finish }],
  });
  const text = kept.text === '' ? [] : [chunk({ content: kept.text }, null)];
  return { whole, chunks: [chunk({ role: 'assistant', content: '' }, null), ...text, chunk({}, finish_reason)] };
}

function completion(kept: KeptAnswer, { id, ...rest }: Identity) {
  const identity = { id: `cmpl-${id}`, ...rest, object: 'text_completion' as const };
  const finish_reason = kept.finishReason as Completion['choices'][number]['finish_reason'];
  const choices = [{ index: 0, text: kept.text, logprobs: null, finish_reason }];
  const whole: Completion = { ...identity, choices, usage: usageOf(kept) };
  return { whole, chunks: [{ ...identity, choices }] };
}

/** What the answer has; nothing of its prompt was computed for it now. */
function usageOf({ promptTokens, completionTokens }: KeptAnswer): Usage {
  return {
    prompt_tokens: promptTokens,
    completion_tokens: completionTokens,
    total_tokens: promptTokens + completionTokens,
    prompt_tokens_details: { cached_tokens: promptTokens },
  };
}
