/**
 * A region's event stream on its way to the app: events as they arrive, and never to a clean end that no region reached.
 *
 * One that breaks, stalls, or stops short of `[DONE]` goes on from another region where that is possible. Where it isn't, it ends in an error event, and the
 * stream in an error. (workerd ends the HTTP response of a stream in error as if it were whole, github.com/cloudflare/workerd/issues/6818: the error event is what
 * an app can rely on.)
 */
import type { Tally } from './outcome.ts';
import type { ResumableAnswer } from './resume.ts';
import { DONE, eventOf } from './sse-events.ts';
import { LongWaits } from './timeout.ts';
import { brokenStream, errorOf, type StreamedAnswer } from './upstream.ts';
import type { UsageWatch } from './usage.ts';

export interface RelayOptions {
  /** Undefined where the answer can't be resumed, wherever it comes from. */
  readonly resumable: ResumableAnswer | undefined;
  /** Where it can't. */
  readonly usage: UsageWatch;
  readonly tally: Tally;
  /** The rest of the answer from another region. @throws when none has it. */
  readonly resume: (from: StreamedAnswer, error: Error) => Promise<StreamedAnswer>;
  /** Told once when the answer broke off for good. */
  readonly onBreak: (region: string, error: Error) => void;
  /** Told of each region that came to its part's end, or broke. */
  readonly onEnd: (region: string, outcome: 'whole' | 'broken') => void;
  /** How often the app hears something while nothing comes. */
  readonly keepAliveMs: number;
}

const MAX_RESUMES = 5;
const KEEP_ALIVE = ': keep-alive\n\n';

/** @param begun the answer, which may be still to come: until it does, the app gets comments. */
export function relay(
  begun: StreamedAnswer | Promise<StreamedAnswer>,
  options: RelayOptions,
  cancel: (reason: unknown) => void,
): ReadableStream<Uint8Array> {
  const encoder = new TextEncoder();
  const pieces = answerText(begun, options);
  let broken: Error | undefined;
  let waits: LongWaits;
  return new ReadableStream<Uint8Array>(
    {
      start(controller) {
        waits = new LongWaits(options.keepAliveMs, () => controller.enqueue(encoder.encode(KEEP_ALIVE)));
      },
      async pull(controller) {
        if (broken !== undefined) return controller.error(broken);
        waits.begin();
        try {
          const piece = await pieces.next();
          waits.end();
          if (piece.done !== true) return controller.enqueue(encoder.encode(piece.value));
          waits.stop();
          controller.close();
        } catch (error) {
          waits.stop();
          broken = error instanceof Error ? error : new Error(String(error));
          const told = brokenStream(broken);
          options.tally.breaks(told.code, told.status);
          controller.enqueue(encoder.encode(eventOf(told.body())));
        }
      },
      cancel(reason) {
        waits.stop();
        cancel(reason);
      },
    },
    { highWaterMark: 0 },
  );
}

async function* answerText(
  begun: StreamedAnswer | Promise<StreamedAnswer>,
  { resumable: known, usage, tally, resume, onBreak, onEnd }: RelayOptions,
): AsyncGenerator<string> {
  let answer = await begun;
  for (let resumes = 0; ; resumes++) {
    const isOwn = answer.origin === 'ours';
    const resumable = isOwn ? known : undefined;
    const pass = (data: string) => (isOwn ? (known ?? usage).pass(data) : usage.passForeign(data));
    try {
      for await (const { text, data } of answer.events) {
        if (data === DONE) tally.ends();
        if (data === undefined || data === DONE) {
          yield text;
          continue;
        }
        const error = errorOf(data);
        // What a region says it failed with another may be spared.
        if (error?.type === 'server_error' && resumable !== undefined) throw new Error(error.message);
        if (error !== undefined) tally.errs(error);
        const passed = error === undefined ? passedOn(pass, data, text) : isOwn ? text : eventOf({ error });
        if (passed !== undefined) yield passed;
      }
      tally.ends();
      return onEnd(answer.region, 'whole');
    } catch (caught) {
      const error = caught instanceof Error ? caught : new Error(String(caught));
      answer.abort(error);
      onEnd(answer.region, 'broken');
      if (resumable?.isComplete === true) {
        tally.ends();
        return yield `data: ${DONE}\n\n`;
      }
      if (resumable === undefined || resumes >= MAX_RESUMES) {
        onBreak(answer.region, error);
        throw error;
      }
      answer = await resume(answer, error).catch((cause: unknown) => {
        onBreak(answer.region, error);
        throw cause;
      });
    }
  }
}

/** What isn't a chunk passes as it is. */
function passedOn(pass: (data: string) => string | undefined, data: string, text: string): string | undefined {
  if (!data.startsWith('{')) return text;
  const passed = pass(data);
  if (passed === data) return text;
  return passed === undefined ? undefined : `data: ${passed}\n\n`;
}
