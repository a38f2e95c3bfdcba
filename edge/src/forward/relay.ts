/**
 * An upstream's event stream on its way to the app: events as they arrive, and never to a clean end that the upstream didn't reach.
 *
 * One that breaks, stalls, or stops short of `[DONE]` ends in an error event, and the stream in an error. (workerd ends the HTTP response of a
 * stream in error as if it were whole, github.com/cloudflare/workerd/issues/6818: the error event is what an app can rely on.)
 */
import { ApiError } from '@signpost/contracts';
import { errorEvent, SseFrames } from './sse-frames.ts';
import { withTimeout } from './timeout.ts';

export interface RelayOptions {
  /** Longest wait for a chunk. */
  readonly idleMs: number;
  /** Ends the upstream request: the app is gone, or the answer is of no more use. */
  readonly abort: (reason: unknown) => void;
  /** Told once when the upstream broke. */
  readonly onBreak: (error: unknown) => void;
}

type Reader = Pick<ReadableStreamDefaultReader<Uint8Array>, 'read'>;

/**
 * @param first the chunk already read, when the upstream was found to be answering.
 * @param rest reader of the chunks after it.
 */
export function relay(first: Uint8Array, rest: Reader, options: RelayOptions): ReadableStream<Uint8Array> {
  const frames = new SseFrames();
  let next: Promise<{ done: boolean; value?: Uint8Array | undefined }> | undefined = Promise.resolve({
    done: false,
    value: first,
  });
  let broken: Error | undefined;

  /** The next bytes for the app; undefined at the upstream's own, clean end. */
  async function advance(): Promise<Uint8Array | undefined> {
    for (;;) {
      const { done, value } = await (next ?? withTimeout(rest.read(), options.idleMs, 'no data'));
      next = undefined;
      if (done || value === undefined) {
        const last = frames.finish();
        if (last.length > 0) {
          next = Promise.resolve({ done: true });
          return last;
        }
        if (!frames.done) throw new Error('the stream ended before its answer did');
        return undefined;
      }
      const bytes = frames.push(value);
      if (bytes.length > 0) return bytes;
    }
  }

  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        if (broken !== undefined) return controller.error(broken);
        try {
          const bytes = await advance();
          if (bytes === undefined) controller.close();
          else controller.enqueue(bytes);
        } catch (error) {
          options.abort(error);
          // After [DONE] the answer is whole, however the connection ends.
          if (frames.done) return controller.close();
          broken = error instanceof Error ? error : new Error(String(error));
          options.onBreak(broken);
          controller.enqueue(errorEvent(brokenStream(broken).body()));
        }
      },
      cancel(reason) {
        options.abort(reason);
      },
    },
    { highWaterMark: 0 },
  );
}

function brokenStream(cause: Error): ApiError {
  return new ApiError('server_error', 'upstream_broken', `the answer broke off: ${cause.message}`, { cause });
}
