/**
 * What a request says beside its body, and what is told of it when it has ended.
 */
import { ApiError, type ChatRequest, type CompletionRequest, type FinishReason } from '@signpost/contracts';
import type { RequestOutcome } from '../runner/request-watch.ts';
import type { Generation } from './generation.ts';
import type { RequestSpan } from './tracing.ts';

/** Milliseconds the app allows for the whole answer. */
const TIMEOUT_HEADER = 'x-signpost-timeout-ms';

export type Asked =
  | { readonly operation: 'chat'; readonly request: ChatRequest }
  | { readonly operation: 'text_completion'; readonly request: CompletionRequest };

/** Looks up a request's header. */
export type HeaderOf = (name: string) => string | undefined;

const FINISH_REASON: Record<RequestOutcome, FinishReason | undefined> = {
  stop: 'stop',
  length: 'length',
  abort: undefined,
  error: undefined,
};

/** @throws ApiError (400) for a header that is no positive whole number. */
export function timeoutOf(headerOf: HeaderOf): number | undefined {
  const given = headerOf(TIMEOUT_HEADER);
  if (given === undefined) return undefined;
  if (/^[1-9]\d{0,14}$/.test(given)) return Number(given);
  throw new ApiError(
    'invalid_request_error',
    'invalid_value',
    `${TIMEOUT_HEADER} is "${given.slice(0, 32)}"; expected milliseconds, a whole number above 0`,
  );
}

export function promptOf({ operation, request }: Asked): unknown {
  return operation === 'chat' ? request.messages : request.prompt;
}

/** The span of a request that ends now. Several choices make one: from the first's beginning on. */
export function spanOf(
  headerOf: HeaderOf,
  requestId: string,
  { operation, request }: Asked,
  { digests, usage, summaries }: Pick<Generation, 'digests' | 'usage' | 'summaries'>,
  error: ApiError | undefined,
): RequestSpan {
  // The clocks of a span are the wall's, those of a summary the process's.
  const wall = (ms: number) => performance.timeOrigin + ms;
  const endedAt = wall(performance.now());
  const first = (of: (summary: (typeof summaries)[number]) => number | undefined) => {
    const times = summaries.flatMap((summary) => of(summary) ?? []);
    return times.length === 0 ? undefined : wall(Math.min(...times));
  };
  const after = (submitted: number, ms: number | undefined) => (ms === undefined ? undefined : submitted + ms);
  return {
    operation,
    requestId,
    model: request.model,
    experts: digests,
    traceparent: headerOf('traceparent'),
    tracestate: headerOf('tracestate'),
    parameters: {
      temperature: request.temperature ?? undefined,
      topP: request.top_p ?? undefined,
      seed: request.seed ?? undefined,
      maxTokens: request.max_tokens ?? undefined,
      choices: summaries.length,
    },
    startedAt: first(({ submitted }) => submitted) ?? endedAt,
    scheduledAt: first(({ submitted, startedMs }) => after(submitted, startedMs)),
    firstTokenAt: first(({ submitted, firstTokenMs }) => after(submitted, firstTokenMs)),
    endedAt,
    promptTokens: usage.prompt_tokens,
    cachedTokens: usage.prompt_tokens_details?.cached_tokens ?? 0,
    completionTokens: usage.completion_tokens,
    finishReasons: summaries.flatMap(({ outcome }) => FINISH_REASON[outcome] ?? []),
    errorCode: error?.code,
  };
}
