/**
 * A container of ours in AWS Lambda, through InvokeWithResponseStream: the same signed request as over HTTP, inside of an event (see contracts, `lambda.ts`).
 */
import { ApiError, type LambdaEvent, PreludeReader } from '@signpost/contracts';
import type { UpstreamRequest } from '../forward/upstream.ts';
import type { LambdaRegion } from '../plan/regions.ts';
import { type BackendSecrets, secretNamed } from './backend.ts';
import { bodyOf, ourHeaders } from './http.ts';

export async function sendLambda(
  request: UpstreamRequest,
  region: LambdaRegion,
  using: BackendSecrets,
  signal: AbortSignal,
): Promise<Response> {
  const body = bodyOf(request);
  const event: LambdaEvent = {
    version: '2.0',
    rawPath: request.path,
    rawQueryString: '',
    headers: await ourHeaders(request, region.name, request.path, body, using.signingKey),
    requestContext: { http: { method: request.method } },
    ...(body === '' ? {} : { body }),
    isBase64Encoded: false,
  };
  const payloads = await invoke(region, JSON.stringify(event), using, signal);
  if (payloads instanceof ApiError) return payloads.toResponse();
  const reader = new PreludeReader();
  for (;;) {
    const { done, value } = await payloads.next();
    if (done === true) throw new Error('the function answered with nothing');
    const begun = reader.push(value);
    if (begun === undefined) continue;
    const { statusCode: status, headers } = begun.prelude;
    return new Response(readable(begun.rest, payloads), { status, headers });
  }
}

/** What the function writes, or that AWS runs as many as it is allowed to. @throws Error with what AWS says: before the first byte, or where the function fails in the midst of its answer. */
async function invoke(
  region: LambdaRegion,
  payload: string,
  using: BackendSecrets,
  signal: AbortSignal,
): Promise<AsyncGenerator<Uint8Array, undefined> | ApiError> {
  // Half a megabyte that an edge without such a region need not start with.
  const { InvokeWithResponseStreamCommand, LambdaClient, TooManyRequestsException } = await import(
    '@aws-sdk/client-lambda'
  );
  // One a request: what a client keeps belongs to the request that it was made in.
  const client = new LambdaClient({
    region: region.awsRegion,
    ...(region.endpoint === undefined ? {} : { endpoint: region.endpoint }),
    credentials: {
      accessKeyId: secretNamed(region.accessKeyIdSecret, using),
      secretAccessKey: secretNamed(region.secretAccessKeySecret, using),
      ...(region.sessionTokenSecret === undefined
        ? {}
        : { sessionToken: secretNamed(region.sessionTokenSecret, using) }),
    },
    // Another try is for the plan to decide.
    maxAttempts: 1,
  });
  const command = new InvokeWithResponseStreamCommand({
    FunctionName: region.function,
    ...(region.qualifier === undefined ? {} : { Qualifier: region.qualifier }),
    Payload: new TextEncoder().encode(payload),
  });
  try {
    const { EventStream: events } = await client.send(command, { abortSignal: signal });
    return payloadsOf(events ?? []);
  } catch (error) {
    signal.throwIfAborted();
    if (error instanceof TooManyRequestsException) return throttled(error);
    throw error instanceof Error ? new Error(`${error.name}: ${error.message}`, { cause: error }) : error;
  }
}

/** What an invocation's events may hold of AWS's own shape. */
interface InvocationEvent {
  readonly PayloadChunk?: { readonly Payload?: Uint8Array | undefined };
  readonly InvokeComplete?: { readonly ErrorCode?: string | undefined; readonly ErrorDetails?: string | undefined };
}

async function* payloadsOf(
  events: AsyncIterable<InvocationEvent> | readonly never[],
): AsyncGenerator<Uint8Array, undefined> {
  for await (const { PayloadChunk: chunk, InvokeComplete: end } of events) {
    if (chunk?.Payload !== undefined && chunk.Payload.byteLength > 0) yield chunk.Payload;
    if (end === undefined) continue;
    if (end.ErrorCode !== undefined)
      throw new Error(`the function failed: ${end.ErrorCode} ${end.ErrorDetails ?? ''}`.trimEnd());
    return;
  }
  throw new Error('the invocation broke off');
}

function readable(first: Uint8Array, rest: AsyncGenerator<Uint8Array, undefined>): ReadableStream<Uint8Array> {
  let next: Uint8Array | undefined = first.byteLength > 0 ? first : undefined;
  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        if (next === undefined) {
          const { done, value } = await rest.next();
          if (done === true) return controller.close();
          next = value;
        }
        controller.enqueue(next);
        next = undefined;
      },
      async cancel() {
        await rest.return(undefined);
      },
    },
    { highWaterMark: 0 },
  );
}

/** As a region of ours that is full says it. */
function throttled(error: { readonly message: string; readonly retryAfterSeconds?: string | undefined }): ApiError {
  const seconds = Number(error.retryAfterSeconds);
  return new ApiError('rate_limit_error', 'region_full', `AWS Lambda: ${error.message}`, {
    retryAfterSeconds: Number.isFinite(seconds) && seconds > 0 ? Math.ceil(seconds) : 1,
  });
}
