/**
 * The part of the OpenAI wire format in use, as the edge and the backend both accept and produce it.
 *
 * Fields that would change the answer and aren't implemented are refused by name, so that no app believes in a setting that is
 * ignored; fields that only describe the caller (`user`, `metadata`, `store`) pass.
 */
import { z } from 'zod';
import { describeIssues, Problem } from './problem.ts';

const contentSchema = z.union([
  z.string(),
  z
    .array(
      z.object({ type: z.literal('text', { error: 'only parts of type "text" are supported' }), text: z.string() }),
    )
    .transform((parts) => parts.map((part) => part.text).join('')),
]);

const messageSchema = z.object({
  role: z
    .enum(['system', 'developer', 'user', 'assistant'])
    .transform((role) => (role === 'developer' ? 'system' : role)),
  content: contentSchema,
});
export type ChatMessage = z.output<typeof messageSchema>;

const refuse = (what: string) => z.null({ error: `${what} is not supported` }).optional();

const samplingFields = {
  model: z.string().min(1).max(512),
  stream: z.boolean().nullish(),
  stream_options: z.object({ include_usage: z.boolean().optional() }).nullish(),
  temperature: z.number().min(0).max(2).nullish(),
  top_p: z.number().gt(0).max(1).nullish(),
  seed: z.number().int().nullish(),
  stop: z.union([z.string().min(1), z.array(z.string().min(1)).max(4)]).nullish(),
  n: z.literal(1, { error: 'only n = 1 is supported' }).nullish(),
  frequency_penalty: z.literal(0, { error: 'only 0 is supported' }).nullish(),
  presence_penalty: z.literal(0, { error: 'only 0 is supported' }).nullish(),
  logit_bias: z
    .record(z.string(), z.number())
    .refine((bias) => Object.keys(bias).length === 0, 'is not supported')
    .nullish(),
};

export const chatRequestSchema = z.object({
  ...samplingFields,
  messages: z.array(messageSchema).min(1, 'must hold at least one message'),
  max_tokens: z.number().int().positive().nullish(),
  max_completion_tokens: z.number().int().positive().nullish(),
  logprobs: z.literal(false, { error: 'is supported by /v1/completions only' }).nullish(),
  tools: z.array(z.unknown()).max(0, 'tool calls are not supported').nullish(),
  response_format: z.object({ type: z.literal('text', { error: 'only "text" is supported' }) }).nullish(),
  functions: refuse('function calling'),
});
export type ChatRequest = z.output<typeof chatRequestSchema>;

export const completionRequestSchema = z.object({
  ...samplingFields,
  /** Text, or token ids. */
  prompt: z.union([z.string().min(1), z.array(z.number().int().nonnegative()).min(1)], {
    error: 'must be a non-empty string or array of token ids',
  }),
  /** 0 scores the prompt without generating (with `echo` and `logprobs`). */
  max_tokens: z.number().int().nonnegative().nullish(),
  /** Return the prompt, and with `logprobs` its tokens' log-probabilities. */
  echo: z.boolean().nullish(),
  logprobs: z.union([z.literal(0), z.literal(1)], { error: 'only 0 and 1 are supported' }).nullish(),
  best_of: z.literal(1, { error: 'only 1 is supported' }).nullish(),
  suffix: refuse('suffix'),
});
export type CompletionRequest = z.output<typeof completionRequestSchema>;

export interface Usage {
  readonly prompt_tokens: number;
  readonly completion_tokens: number;
  readonly total_tokens: number;
  /** `cached_tokens`: those whose keys and values were at hand from an earlier request. */
  readonly prompt_tokens_details?: { readonly cached_tokens: number };
}

export type FinishReason = 'stop' | 'length';

export interface ChatCompletion {
  readonly id: string;
  readonly object: 'chat.completion';
  readonly created: number;
  readonly model: string;
  readonly choices: readonly {
    readonly index: 0;
    readonly message: { readonly role: 'assistant'; readonly content: string };
    readonly logprobs: null;
    readonly finish_reason: FinishReason;
  }[];
  readonly usage: Usage;
}

export interface ChatCompletionChunk {
  readonly id: string;
  readonly object: 'chat.completion.chunk';
  readonly created: number;
  readonly model: string;
  readonly choices: readonly {
    readonly index: 0;
    readonly delta: { readonly role?: 'assistant'; readonly content?: string };
    readonly logprobs: null;
    readonly finish_reason: FinishReason | null;
  }[];
  readonly usage?: Usage | null;
}

/** Log-probabilities in the completions shape: one entry a token; the first prompt token has none. */
export interface CompletionLogprobs {
  readonly tokens: readonly string[];
  readonly token_logprobs: readonly (number | null)[];
  readonly text_offset: readonly number[];
  readonly top_logprobs: readonly (Readonly<Record<string, number>> | null)[] | null;
}

/** Whole and streamed completions share this shape. */
export interface Completion {
  readonly id: string;
  readonly object: 'text_completion';
  readonly created: number;
  readonly model: string;
  readonly choices: readonly {
    readonly index: 0;
    readonly text: string;
    readonly logprobs: CompletionLogprobs | null;
    readonly finish_reason: FinishReason | null;
  }[];
  readonly usage?: Usage | null;
}

export interface ModelCard {
  readonly id: string;
  readonly object: 'model';
  readonly created: number;
  readonly owned_by: string;
  /** The base's name, for an expert. */
  readonly parent: string | null;
  /** What the name stands for now: the expert version's digest, or the base's. */
  readonly root: string;
}

export interface ModelList {
  readonly object: 'list';
  readonly data: readonly ModelCard[];
}

/** OpenAI's error envelope. `code` is stable, for programs; `message` says what to do. */
export interface ErrorBody {
  readonly error: {
    readonly message: string;
    readonly type: ErrorType;
    readonly param: string | null;
    readonly code: string;
  };
}

export type ErrorType =
  | 'invalid_request_error'
  | 'authentication_error'
  | 'permission_error'
  | 'not_found_error'
  | 'rate_limit_error'
  | 'server_error';

const STATUS: Record<ErrorType, number> = {
  invalid_request_error: 400,
  authentication_error: 401,
  permission_error: 403,
  not_found_error: 404,
  rate_limit_error: 429,
  server_error: 500,
};

/** A failure with its OpenAI envelope: thrown anywhere in a request, turned into a response (or an SSE error event) at the top. */
export class ApiError extends Error {
  override readonly name = 'ApiError';
  readonly type: ErrorType;
  readonly code: string;
  readonly status: number;
  readonly param: string | null;
  /** When it is worth another try, where that is known. */
  readonly retryAfterSeconds: number | undefined;

  constructor(
    type: ErrorType,
    code: string,
    message: string,
    options: { param?: string; status?: number; cause?: unknown; retryAfterSeconds?: number } = {},
  ) {
    super(message, { cause: options.cause });
    this.type = type;
    this.code = code;
    this.status = options.status ?? STATUS[type];
    this.param = options.param ?? null;
    this.retryAfterSeconds = options.retryAfterSeconds;
  }

  body(): ErrorBody {
    return { error: { message: this.message, type: this.type, param: this.param, code: this.code } };
  }

  toResponse(headers: Record<string, string> = {}): Response {
    const retry = this.retryAfterSeconds === undefined ? {} : { 'retry-after': String(this.retryAfterSeconds) };
    return Response.json(this.body(), { status: this.status, headers: { ...retry, ...headers } });
  }

  /** Any thrown value as an ApiError: a `Problem` is the caller's to mend, anything else is ours and keeps its details to the log. */
  static from(error: unknown): ApiError {
    if (error instanceof ApiError) return error;
    if (error instanceof Problem)
      return new ApiError('invalid_request_error', 'invalid_request', error.message, { cause: error });
    return new ApiError('server_error', 'internal_error', 'internal error; the request id finds it in the log', {
      cause: error,
    });
  }
}

/** Largest request body accepted, in bytes: many times the longest context as text. */
export const MAX_BODY_BYTES = 4 * 1024 * 1024;

/**
 * Reads and checks a JSON body.
 *
 * @throws ApiError (400 or 413) naming the field that is wrong.
 */
export async function readBody<T>(request: Request, schema: z.ZodType<T>): Promise<{ value: T; text: string }> {
  const text = await readText(request);
  return { value: parseBody(text, schema), text };
}

/**
 * Checks a JSON body's text.
 *
 * @throws ApiError (400) naming the field that is wrong.
 */
export function parseBody<T>(text: string, schema: z.ZodType<T>): T {
  let raw: unknown;
  try {
    raw = JSON.parse(text);
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : cause;
    throw new ApiError('invalid_request_error', 'invalid_json', `the body is not JSON: ${why}`, { cause });
  }
  const parsed = schema.safeParse(raw);
  if (parsed.success) return parsed.data;
  const param = parsed.error.issues[0]?.path.map(String).join('.') ?? '';
  throw new ApiError(
    'invalid_request_error',
    'invalid_value',
    describeIssues(parsed.error),
    param === '' ? {} : { param },
  );
}

/** What is read beyond the bound, and thrown away: an app that is still sending would take a closed connection for a failure, not for a 413. */
const MAX_DISCARDED_BYTES = 16 * 1024 * 1024;

/** A body's text. @throws ApiError (413) when it is longer than `limit` bytes; what is beyond is not kept. */
export async function readText(message: Request | Response, limit = MAX_BODY_BYTES): Promise<string> {
  const reader = message.body?.getReader();
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for (;;) {
    const { done, value } = (await reader?.read()) ?? { done: true, value: undefined };
    if (done) break;
    bytes += value.byteLength;
    if (bytes <= limit) chunks.push(value);
    else if (bytes > limit + MAX_DISCARDED_BYTES) {
      await reader?.cancel();
      break;
    }
  }
  if (bytes > limit) {
    throw new ApiError('invalid_request_error', 'body_too_large', `the body is larger than ${limit} bytes`, {
      status: 413,
    });
  }
  const whole = new Uint8Array(bytes);
  let at = 0;
  for (const chunk of chunks) {
    whole.set(chunk, at);
    at += chunk.byteLength;
  }
  return new TextDecoder().decode(whole);
}
