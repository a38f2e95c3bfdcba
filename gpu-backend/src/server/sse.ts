/**
 * Server-sent events: an async generator of payloads as a streaming response.
 *
 * `[DONE]` follows a generator that ended; one that threw ends in an error event and a stream that is cut off, so that nobody takes a truncated answer
 * for a whole one.
 */
import { ApiError } from '@signpost/contracts';

const KEEP_ALIVE_MS = 10_000;
const HEADERS = {
  'content-type': 'text/event-stream; charset=utf-8',
  'cache-control': 'no-cache',
  'x-accel-buffering': 'no',
};

export interface SseOptions {
  readonly headers: Readonly<Record<string, string>>;
  /** Told when the app goes away. */
  readonly onCancel: (reason: unknown) => void;
  readonly onError: (error: unknown) => void;
}

export function sseResponse(payloads: AsyncGenerator<unknown>, options: SseOptions): Response {
  const encoder = new TextEncoder();
  const event = (data: string) => encoder.encode(`data: ${data}\n\n`);
  let keepAlive: NodeJS.Timeout | undefined;
  let broken: Error | undefined;
  let isDone = false;
  const body = new ReadableStream<Uint8Array>({
    start(controller) {
      keepAlive = setInterval(() => controller.enqueue(encoder.encode(': keep-alive\n\n')), KEEP_ALIVE_MS);
    },
    async pull(controller) {
      if (broken !== undefined) return controller.error(broken);
      try {
        const { value, done } = await payloads.next();
        keepAlive?.refresh();
        if (done !== true) return controller.enqueue(event(JSON.stringify(value)));
        clearInterval(keepAlive);
        isDone = true;
        controller.enqueue(event('[DONE]'));
        controller.close();
      } catch (error) {
        clearInterval(keepAlive);
        options.onError(error);
        broken = error instanceof Error ? error : new Error(String(error));
        controller.enqueue(event(JSON.stringify(ApiError.from(error).body())));
      }
    },
    cancel(reason) {
      clearInterval(keepAlive);
      if (!isDone) options.onCancel(reason);
      return payloads.return(undefined).then(() => undefined);
    },
  });
  return new Response(body, { headers: { ...options.headers, ...HEADERS } });
}
