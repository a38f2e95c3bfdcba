/**
 * One request to one region, up to the first thing that answers it.
 */
import { ApiError, ERROR_TYPES, type ErrorBody, HEARTBEAT_INTERVAL_MS, readText } from '@signpost/contracts';
import { type BackendSecrets, send, showsLifeEarly } from '../backends/backend.ts';
import { isOurs, type Region } from '../plan/regions.ts';
import type { Timeouts } from '../settings/settings.ts';
import type { TokenUsage } from './outcome.ts';
import { DONE, type SseEvent, SseEvents } from './sse-events.ts';
import { LongWaits, TimeoutError, type Watch, withTimeout } from './timeout.ts';
import { usageIn } from './usage.ts';

export interface UpstreamRequest {
  readonly method: 'GET' | 'POST';
  readonly path: string;
  /** Fields of its JSON body; undefined for GET. */
  readonly fields: Readonly<Record<string, unknown>> | undefined;
  /** The same without what only regions of ours understand; the same where left out. */
  readonly plainFields?: Readonly<Record<string, unknown>> | undefined;
  /** The model's name without the versions that the edge chose: for a region that doesn't know them (yet). */
  readonly byName?: string;
  readonly delivery: 'stream' | 'whole';
  /** That the region computes before its first token, as far as it can be told; left out where none is. */
  readonly promptTokens?: (region: string) => number;
  readonly tenant: string | undefined;
  /** Passed on as they are. */
  readonly headers: Readonly<Record<string, string>>;
  /** Aborted when the app is gone. */
  readonly signal: AbortSignal;
}

/** What a region's answer is passed on with, by names in lower case: no `Headers`, of which each costs a request as much as its whole plan. */
export type PassedHeaders = Readonly<Record<string, string>>;

/** What a region says, in one piece. */
export interface WholeAnswer {
  readonly kind: 'whole';
  readonly region: string;
  readonly status: number;
  readonly headers: PassedHeaders;
  /** Its body. */
  readonly text: string;
  /** Of an answer with tokens. */
  readonly usage: TokenUsage | undefined;
  /** Of an error. */
  readonly errorCode: string | undefined;
}

export interface AskOptions extends BackendSecrets {
  readonly timeouts: Timeouts;
  /** For a region that is asked now: tells from then on whether it has fallen silent; undefined where nobody could tell. */
  readonly vigil?: ((region: string) => (() => boolean) | undefined) | undefined;
}

/** As often as regions send heartbeats. */
const WATCH_MS = HEARTBEAT_INTERVAL_MS;

/** A stream that has begun. */
export interface StreamedAnswer {
  readonly kind: 'stream';
  readonly region: string;
  /** A stranger's tells of no token ids, so that nobody can go on with it. */
  readonly origin: 'ours' | 'stranger';
  /** From the request to its headers. */
  readonly headersMs: number;
  /** When its headers were here, in milliseconds since the epoch, */
  readonly headersAt: number;
  /** and when its first event with data was. */
  readonly begunAt: number;
  readonly status: number;
  readonly headers: PassedHeaders;
  /** The first event that has data, with what came in the same read, */
  readonly first: readonly SseEvent[];
  /** and what comes after it to the end of the stream, read by read. */
  readonly rest: AsyncGenerator<readonly SseEvent[]>;
  /** Ends the request; its reading fails with the reason. */
  readonly abort: (reason: unknown) => void;
}

interface FailureOptions {
  readonly busy?: WholeAnswer;
  readonly isWell?: boolean;
}

/** A region that doesn't serve this request; another may. */
export class RegionFailure extends Error {
  override readonly name = 'RegionFailure';
  readonly region: string;
  /** It answers, but takes nothing more: what it said is the app's where nobody else answers. */
  readonly busy: WholeAnswer | undefined;
  /** It answers others: its breaker need know nothing of this. */
  readonly isWell: boolean;

  constructor(region: string, message: string, { busy, isWell = busy !== undefined }: FailureOptions = {}) {
    super(message);
    this.region = region;
    this.busy = busy;
    this.isWell = isWell;
  }
}

/** 520 to 530 are what Cloudflare answers where it can't reach the region's origin. */
const UNAVAILABLE = new Set([500, 502, 503, 504, 520, 521, 522, 523, 524, 525, 526, 527, 530]);
/** The region is not to blame for these, whatever their status. */
const OWN_CODES = new Set(['deadline_exceeded']);
/** What it lacks is its store's: the base, and the experts that it has at hand, it goes on answering. */
const STORE_CODES = new Set(['expert_unavailable', 'catalogue_unavailable']);
/** Of an answer that isn't streamed: hundreds of times the longest context with its log-probabilities. */
export const MAX_ANSWER_BYTES = 32 * 1024 * 1024;
/** What a region's answer is passed on with. */
const PASSED_HEADERS = ['content-type', 'cache-control', 'retry-after', 'server-timing', 'x-signpost-digest'];

/**
 * Sends the request, and waits for a whole answer, or for a stream's first event with data.
 *
 * @param controller of this request: aborted by who doesn't need its answer any more, and when it fails.
 * @throws RegionFailure when the region can't be reached, is unavailable or full, breaks off or takes too long; what it was aborted with, when it was.
 */
export async function ask(
  request: UpstreamRequest,
  region: Region,
  { timeouts, vigil, ...secrets }: AskOptions,
  controller: AbortController,
): Promise<WholeAnswer | StreamedAnswer> {
  const isStream = request.delivery === 'stream';
  const asked = Date.now();
  try {
    return isStream
      ? await withTimeout(answer(), timeouts.firstTokenMs, 'no first token')
      : await withTimeout(answer(), timeouts.answerMs, 'no answer', watch());
  } catch (error) {
    controller.signal.throwIfAborted();
    const failure =
      error instanceof RegionFailure
        ? error
        : new RegionFailure(region.name, error instanceof Error ? error.message : String(error));
    controller.abort(failure);
    throw failure;
  }

  /** A stream says itself that its region lives. */
  function watch(): Watch | undefined {
    const isInVain = vigil?.(region.name);
    return isInVain && { everyMs: WATCH_MS, isInVain, why: 'no answer, and no heartbeat any more' };
  }

  async function answer(): Promise<WholeAnswer | StreamedAnswer> {
    const sent = send(request, region, secrets, controller.signal);
    // A region that lives begins its answer after ten seconds at the latest, if with a comment.
    const isSoonSeen = isStream && showsLifeEarly(region);
    const response = isSoonSeen ? await withTimeout(sent, timeouts.connectMs, 'no sign of life') : await sent;
    const headers = passedHeaders(response);
    if (!isStream || headers['content-type']?.startsWith('text/event-stream') !== true) return whole(response, headers);
    return streamed(response, headers, Date.now());
  }

  async function whole(response: Response, headers: PassedHeaders): Promise<WholeAnswer> {
    const { status, ok } = response;
    const text = await readText(response, MAX_ANSWER_BYTES);
    if (text === '' && ok) throw new RegionFailure(region.name, `answered ${status} with an empty body`);
    const answer: WholeAnswer = {
      kind: 'whole',
      region: region.name,
      status,
      headers,
      text,
      usage: ok ? usageIn(text) : undefined,
      errorCode: errorOf(text)?.code,
    };
    const said = `answered ${status} ${text.slice(0, 200)}`.trimEnd();
    if (status === 429) throw new RegionFailure(region.name, said, { busy: answer });
    const code = answer.errorCode ?? '';
    if (UNAVAILABLE.has(status) && !OWN_CODES.has(code))
      throw new RegionFailure(region.name, said, { isWell: STORE_CODES.has(code) });
    return answer;
  }

  async function streamed(response: Response, headers: PassedHeaders, headersAt: number): Promise<StreamedAnswer> {
    const all = eventsOf(response, timeouts.idleMs, controller.signal);
    for (;;) {
      const { value: events, done } = await all.next();
      if (done === true) throw new RegionFailure(region.name, `answered ${response.status} with an empty body`);
      const begun = events.findIndex(({ data }) => data !== undefined);
      const event = events[begun];
      if (event?.data === undefined) continue;
      const error = errorOf(event.data);
      if (error?.type === 'server_error' && !OWN_CODES.has(error.code ?? ''))
        throw new RegionFailure(region.name, `answered with ${error.code}: ${error.message}`, {
          isWell: STORE_CODES.has(error.code ?? ''),
        });
      return {
        kind: 'stream',
        region: region.name,
        origin: isOurs(region) ? 'ours' : 'stranger',
        headersMs: headersAt - asked,
        headersAt,
        begunAt: Date.now(),
        status: response.status,
        headers,
        first: events.slice(begun),
        rest: all,
        abort: (reason) => controller.abort(reason),
      };
    }
  }
}

/** Events, read by read, to the stream's own, clean end: after `[DONE]`. @throws Error when it ends before, stalls or breaks; the `signal`'s reason. */
async function* eventsOf(response: Response, idleMs: number, signal: AbortSignal): AsyncGenerator<readonly SseEvent[]> {
  const reader = response.body?.getReader();
  if (reader === undefined) return;
  const parser = new SseEvents();
  let isDone = false;
  let stalled: TimeoutError | undefined;
  const waits = new LongWaits(idleMs, () => {
    stalled = new TimeoutError(`no data for ${idleMs} ms`);
    // Its rejection is the read's, too.
    reader.cancel().catch(() => {});
  });
  try {
    for (;;) {
      waits.begin();
      const { done, value } = await reader.read();
      waits.end();
      if (stalled !== undefined) throw stalled;
      const last = done ? parser.finish() : undefined;
      const events = done ? (last === undefined ? [] : [last]) : parser.push(value);
      isDone ||= events.some(({ data }) => data === DONE);
      if (events.length > 0) yield events;
      if (done && !isDone) throw new Error('the stream ended before its answer did');
      if (done) return;
    }
  } catch (error) {
    signal.throwIfAborted();
    // After [DONE] the answer is whole, however the connection ends.
    if (!isDone) throw stalled ?? error;
  } finally {
    waits.stop();
  }
}

/** The error in OpenAI's envelope, where there is one. Strangers have types of their own, and some the status for a code. */
export function errorOf(json: string): ErrorBody['error'] | undefined {
  if (!json.startsWith('{"error"')) return undefined;
  try {
    const { error } = JSON.parse(json) as { readonly error: ErrorBody['error'] | null };
    if (typeof error !== 'object' || error === null || ERROR_TYPES.includes(error.type)) return error ?? undefined;
    const code = Number(error.code);
    const type = code >= 400 && code < 500 ? 'invalid_request_error' : 'server_error';
    const isNamed = typeof error.code === 'string' && Number.isNaN(code);
    return {
      message: String(error.message),
      type,
      param: error.param ?? null,
      code: isNamed ? error.code : `upstream_${error.code ?? type}`,
    };
  } catch {
    return undefined;
  }
}

function passedHeaders({ headers }: Response): PassedHeaders {
  const passed: Record<string, string> = {};
  for (const name of PASSED_HEADERS) {
    const value = headers.get(name);
    if (value !== null) passed[name] = value;
  }
  return passed;
}

/** A region's failure as the app is told of it. */
export function brokenStream(cause: Error): ApiError {
  return new ApiError('server_error', 'upstream_broken', `the answer broke off: ${cause.message}`, { cause });
}
