/**
 * Server-sent events: an async generator of payloads as a streaming response.
 *
 * `[DONE]` follows a generator that ended; one that threw ends in an error event and no `[DONE]`, so that nobody takes a truncated answer for a
 * whole one. Comments keep the connection open while there is nothing to say.
 */
import { ApiError } from '@signpost/contracts';
import { settledWithin } from '../settled-within.ts';

export const KEEP_ALIVE_MS = 10_000;
const HEADERS = {
  'content-type': 'text/event-stream; charset=utf-8',
  'cache-control': 'no-cache',
  'x-accel-buffering': 'no',
};

export type StreamEnd =
  | { readonly kind: 'complete' }
  | { readonly kind: 'client gone' }
  | { readonly kind: 'failed'; readonly error: unknown };

export interface SseOptions {
  readonly headers: Readonly<Record<string, string>>;
  /** Told once, after the response has begun. */
  readonly onEnd: (end: StreamEnd) => void;
}

/**
 * The response, once there is a first payload: a request that fails before it gets a status of its own, and may be tried elsewhere. Where the first
 * payload takes longer than `KEEP_ALIVE_MS`, the response begins without it.
 *
 * @throws what the generator threw before the response began.
 */
export async function sseResponse(payloads: AsyncGenerator<unknown>, options: SseOptions): Promise<Response> {
  const first = payloads.next();
  await settledWithin(first, KEEP_ALIVE_MS);
  return new Response(eventStream(first, payloads, options.onEnd), { headers: { ...options.headers, ...HEADERS } });
}

function eventStream(
  first: Promise<IteratorResult<unknown>>,
  payloads: AsyncGenerator<unknown>,
  onEnd: (end: StreamEnd) => void,
): ReadableStream<Uint8Array> {
  const encoder = new TextEncoder();
  const event = (data: string) => encoder.encode(`data: ${data}\n\n`);
  const comment = encoder.encode(': keep-alive\n\n');
  let next: Promise<IteratorResult<unknown>> | undefined = first;
  let keepAlive: NodeJS.Timeout | undefined;
  let isOpen = true;
  const end = (how: StreamEnd) => {
    clearInterval(keepAlive);
    isOpen = false;
    onEnd(how);
  };
  return new ReadableStream<Uint8Array>({
    start(controller) {
      keepAlive = setInterval(() => {
        // Only into an empty queue: an app that doesn't read needs no sign of life.
        if ((controller.desiredSize ?? 0) > 0) controller.enqueue(comment);
      }, KEEP_ALIVE_MS);
    },
    async pull(controller) {
      try {
        const { value, done } = await (next ?? payloads.next());
        next = undefined;
        if (!isOpen) return;
        keepAlive?.refresh();
        if (done !== true) return controller.enqueue(event(JSON.stringify(value)));
        end({ kind: 'complete' });
        controller.enqueue(event('[DONE]'));
      } catch (error) {
        // What an abort throws in a stream that is closed already.
        if (!isOpen) return;
        end({ kind: 'failed', error });
        controller.enqueue(event(JSON.stringify(ApiError.from(error).body())));
      }
      controller.close();
    },
    async cancel() {
      if (isOpen) end({ kind: 'client gone' });
      await payloads.return(undefined);
    },
  });
}
