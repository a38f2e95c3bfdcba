/**
 * What all endpoints of OpenAI's wire format share, as the edge and the backend both accept and produce it: errors, usage, models, bodies. What is
 * asked and answered is under `generation/`.
 */
import type { z } from 'zod';
import { describeIssues, Problem } from './problem.ts';

export interface Usage {
  readonly prompt_tokens: number;
  readonly completion_tokens: number;
  readonly total_tokens: number;
  /** `cached_tokens`: those whose keys and values were at hand from an earlier request. */
  readonly prompt_tokens_details?: { readonly cached_tokens: number };
}

export type FinishReason = 'stop' | 'length' | 'tool_calls';

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

export const ERROR_TYPES = [
  'invalid_request_error',
  'authentication_error',
  'permission_error',
  'not_found_error',
  'rate_limit_error',
  'server_error',
] as const;
export type ErrorType = (typeof ERROR_TYPES)[number];

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
 * Reads and checks a JSON body: as the schema makes it, and as it was sent.
 *
 * @throws ApiError (400 or 413) naming the field that is wrong.
 */
export async function readBody<T>(request: Request, schema: z.ZodType<T>): Promise<{ value: T; raw: unknown }> {
  const raw = await readJson(request);
  return { value: checkBody(raw, schema), raw };
}

/** Reads a JSON body, whatever it says. @throws ApiError (400 or 413) */
export async function readJson(request: Request): Promise<unknown> {
  return parseJson(await readText(request));
}

/**
 * Checks a JSON body's text.
 *
 * @throws ApiError (400) naming the field that is wrong.
 */
export function parseBody<T>(text: string, schema: z.ZodType<T>): T {
  return checkBody(parseJson(text), schema);
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : cause;
    throw new ApiError('invalid_request_error', 'invalid_json', `the body is not JSON: ${why}`, { cause });
  }
}

/** Checks what a body says. @throws ApiError (400) naming the field that is wrong. */
export function checkBody<T>(raw: unknown, schema: z.ZodType<T>): T {
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
  // HTTP ends a body where its length says; but one that is unpacked on the way has another.
  const { headers } = message;
  const stated = Number(headers.get('content-length') ?? Number.POSITIVE_INFINITY);
  if (stated <= limit && !headers.has('content-encoding')) return message.text();
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
