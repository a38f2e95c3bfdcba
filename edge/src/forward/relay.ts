/**
 * A region's event stream on its way to the app: events as they arrive, those of one read in one piece, and never to a clean end that no region reached.
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
  /** Told of each piece that the app has taken. */
  readonly onPass: () => void;
  /** Told the data of each event that goes to the app. */
  readonly onData: (data: string) => void;
  /** How often the app hears something while nothing comes. */
  readonly keepAliveMs: number;
}

const MAX_RESUMES = 5;
const KEEP_ALIVE = ': keep-alive\n\n';

/**
 * @param begun the answer, which may be still to come: until it does, the app gets comments.
 * @param leave told where the app has gone; the region's work is to end then.
 */
export function relay(
  begun: StreamedAnswer | Promise<StreamedAnswer>,
  options: RelayOptions,
  leave: (reason: unknown) => void,
): ReadableStream<Uint8Array> {
  const encoder = new TextEncoder();
  const { readable, writable } = createPipe();
  const writer = writable.getWriter();
  // Also where nothing is being written.
  writer.closed.catch(leave);
  const write = (text: string) =>
    writer.write(encoder.encode(text)).catch((reason: unknown) => {
      leave(reason);
      throw new AppLeft();
    });
  const waits = new LongWaits(options.keepAliveMs, () => void write(KEEP_ALIVE).catch(() => {}));
  void pump();
  return readable;

  async function pump(): Promise<void> {
    try {
      waits.begin();
      for await (const text of answerText(begun, options)) {
        if (text === '') continue;
        waits.end();
        await write(text);
        options.onPass();
        waits.begin();
      }
      // All has been said, if there is nobody any more to hear it.
      await writer.close().catch(() => {});
    } catch (error) {
      if (error instanceof AppLeft) return;
      const told = brokenStream(error instanceof Error ? error : new Error(String(error)));
      options.tally.breaks(told.code, told.status);
      await write(eventOf(told.body())).catch(() => {});
      await writer.abort(error).catch(() => {});
    } finally {
      waits.stop();
    }
  }
}

class AppLeft extends Error {
  override readonly name = 'AppLeft';
}

/**
 * workerd's own pipe, where there is one: it fails its writer when the app has gone. A stream made in JavaScript isn't told where a write to the app's socket was
 * what noticed it, nor is `request.signal`, and the region would work on.
 */
function createPipe(): TransformStream<Uint8Array, Uint8Array> {
  const own = globalThis as { readonly IdentityTransformStream?: typeof TransformStream };
  return new (own.IdentityTransformStream ?? TransformStream)();
}

async function* answerText(
  begun: StreamedAnswer | Promise<StreamedAnswer>,
  { resumable: known, usage, tally, resume, onBreak, onEnd, onData }: RelayOptions,
): AsyncGenerator<string> {
  let answer = await begun;
  for (let resumes = 0; ; resumes++) {
    const isOwn = answer.origin === 'ours';
    const resumable = isOwn ? known : undefined;
    const pass = (data: string) => (isOwn ? (known ?? usage).pass(data) : usage.passForeign(data));
    try {
      for await (const events of eventsOf(answer, onEnd)) {
        // What came together goes on together.
        let together = '';
        for (const { text, data } of events) {
          if (data === DONE) tally.ends();
          if (data === undefined || data === DONE) {
            together += text;
            continue;
          }
          const error = errorOf(data);
          // What a region says it failed with another may be spared.
          if (error?.type === 'server_error' && resumable !== undefined) {
            yield together;
            throw new Error(error.message);
          }
          if (error !== undefined) tally.errs(error);
          const passed = error === undefined ? passedOn(pass, data) : isOwn ? data : JSON.stringify({ error });
          if (passed === undefined) continue;
          onData(passed);
          together += passed === data ? text : `data: ${passed}\n\n`;
        }
        yield together;
      }
      tally.ends();
      return;
    } catch (caught) {
      const error = caught instanceof Error ? caught : new Error(String(caught));
      answer.abort(error);
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

async function* eventsOf({ region, first, rest }: StreamedAnswer, onEnd: RelayOptions['onEnd']) {
  let outcome: 'whole' | 'broken' = 'broken';
  try {
    yield first;
    yield* rest;
    outcome = 'whole';
  } finally {
    onEnd(region, outcome);
  }
}

/** What isn't a chunk passes as it is. */
function passedOn(pass: (data: string) => string | undefined, data: string): string | undefined {
  return data.startsWith('{') ? pass(data) : data;
}
