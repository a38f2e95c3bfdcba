/**
 * An invocation's event (payload format 2.0) as the request that is inside of it, and a response as the prelude of an answer.
 */
import { ApiError, encodePrelude, type LambdaEvent, lambdaEventSchema, Problem, parseWith } from '@signpost/contracts';

/** @throws ApiError (400) for an event of another shape. */
export function requestOf(event: string, signal: AbortSignal): Request {
  const { rawPath, rawQueryString, headers, requestContext, body = '', isBase64Encoded } = parseEvent(event);
  const { method } = requestContext.http;
  const query = rawQueryString === '' ? '' : `?${rawQueryString}`;
  try {
    return new Request(`http://lambda${rawPath}${query}`, {
      method,
      headers,
      // GET and HEAD may have none, not even an empty one.
      ...(body === '' ? {} : { body: isBase64Encoded ? Buffer.from(body, 'base64') : body }),
      signal,
    });
  } catch (cause) {
    throw invalidEvent(cause instanceof Error ? cause.message : String(cause), cause);
  }
}

export function preludeOf({ status, headers }: Response): Uint8Array {
  return encodePrelude({ statusCode: status, headers: Object.fromEntries(headers) });
}

function parseEvent(event: string): LambdaEvent {
  try {
    return parseWith(lambdaEventSchema, JSON.parse(event), 'the event');
  } catch (cause) {
    throw invalidEvent(cause instanceof Problem ? cause.message : 'the event is no JSON', cause);
  }
}

function invalidEvent(why: string, cause: unknown): ApiError {
  return new ApiError(
    'invalid_request_error',
    'invalid_event',
    `this function takes HTTP requests in events of payload format 2.0, as a Signpost edge sends them: ${why}`,
    { cause },
  );
}
