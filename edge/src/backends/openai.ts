/**
 * Somebody else's server that speaks OpenAI's API: vLLM, SGLang, llama.cpp, a hosted one. It gets the app's fields with its own name for the model and its own key,
 * and nothing that only a region of ours understands or should know: no token ids to go on from, no hints, no tenant.
 */
import { ApiError, type ErrorBody, type ErrorType, readText } from '@signpost/contracts';
import { MAX_ANSWER_BYTES, type UpstreamRequest } from '../forward/upstream.ts';
import type { OpenaiRegion } from '../plan/regions.ts';
import { type BackendSecrets, secretNamed } from './backend.ts';
import { nameThere } from './models.ts';

/** Ours alone; others refuse fields that they don't know, or mean something else by them. */
const OWN_FIELDS = ['return_token_ids', 'resume_token_ids'];
/** The request's identity. The app's deadline and hints are ours alone. */
const PASSED_ON = ['x-request-id', 'traceparent', 'tracestate'];
/** The rest of what it says of itself is nothing that the edge may rely on. */
const PASSED_BACK = ['content-type', 'cache-control', 'retry-after'];

export async function sendOpenai(
  request: UpstreamRequest,
  region: OpenaiRegion,
  using: BackendSecrets,
  signal: AbortSignal,
): Promise<Response> {
  const fields = request.plainFields ?? request.fields ?? {};
  const model = String(fields.model);
  const there = nameThere(region, model);
  if (there === undefined) throw new Error(`has no name for the model "${model}"`);
  const own = Object.entries(fields).filter(([name]) => !OWN_FIELDS.includes(name));
  const response = await fetch(`${region.url}${request.path}`, {
    method: request.method,
    headers: {
      ...Object.fromEntries(Object.entries(request.headers).filter(([name]) => PASSED_ON.includes(name))),
      'accept-encoding': 'identity',
      'content-type': 'application/json',
      ...(region.keySecret === undefined ? {} : { authorization: `Bearer ${secretNamed(region.keySecret, using)}` }),
    },
    body: JSON.stringify({ ...Object.fromEntries(own), model: there }),
    redirect: 'manual',
    signal,
  });
  const headers = new Headers();
  for (const name of PASSED_BACK) {
    const value = response.headers.get(name);
    if (value !== null) headers.set(name, value);
  }
  if (!response.ok) return refusal(response.status, await readText(response, MAX_ANSWER_BYTES), headers);
  if (headers.get('content-type')?.startsWith('text/event-stream') === true)
    return new Response(response.body, { status: response.status, headers });
  const text = await readText(response, MAX_ANSWER_BYTES);
  return new Response(underOurName(text, model), { status: response.status, headers });
}

/** A whole answer with the model's name as the app knows it. @throws Error for one that is no JSON object. */
function underOurName(text: string, model: string): string {
  const answer: unknown = JSON.parse(text);
  if (typeof answer !== 'object' || answer === null || Array.isArray(answer))
    throw new Error('answered with something other than a JSON object');
  return JSON.stringify({ ...answer, model });
}

/** Statuses that say that the edge is set up wrongly for this server, which is no fault of the app's. */
const OPERATORS = new Map([
  [401, "doesn't take the edge's key"],
  [403, "doesn't take the edge's key"],
  [404, "doesn't know the path, or the model by the name it is configured with"],
  [405, 'takes no such request'],
]);

/** What it refuses, in the envelope that all errors here have; servers differ in theirs. @throws Error for what only the operator can mend. */
function refusal(status: number, text: string, headers: Headers): Response {
  const why = OPERATORS.get(status);
  const { message = `answered ${status}`, ...said } = readError(text);
  if (why !== undefined) throw new Error(`${why} (${status}: ${message})`);
  // What isn't an error of OpenAI's is no answer of its API: a redirect, say.
  if (status < 400) throw new Error(`answered ${status}`);
  const type: ErrorType =
    status === 429 ? 'rate_limit_error' : status >= 500 ? 'server_error' : 'invalid_request_error';
  const error = new ApiError(type, said.code ?? `upstream_${status}`, message, {
    status,
    ...(said.param === undefined ? {} : { param: said.param }),
  });
  const response = error.toResponse();
  const retryAfter = headers.get('retry-after');
  if (retryAfter !== null) response.headers.set('retry-after', retryAfter);
  return response;
}

interface SaidError {
  readonly message?: string;
  readonly param?: string;
  /** OpenAI's are words; others' numbers say no more than the status. */
  readonly code?: string;
}

/** OpenAI's envelope, or FastAPI's `detail`; of anything else the beginning. */
function readError(text: string): SaidError {
  try {
    const body = JSON.parse(text) as Partial<ErrorBody> & { readonly message?: unknown; readonly detail?: unknown };
    const { message, param, code } = body.error ?? {};
    const told = [message, body.message, body.detail].find((one) => typeof one === 'string');
    return {
      ...(typeof told === 'string' ? { message: told } : {}),
      ...(typeof param === 'string' ? { param } : {}),
      ...(typeof code === 'string' && /^[a-z_]+$/.test(code) ? { code } : {}),
    };
  } catch {
    return text === '' ? {} : { message: text.slice(0, 200) };
  }
}
