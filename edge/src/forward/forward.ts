/**
 * Sending a request to the regions of a plan until the app has its answer.
 *
 * Another region is asked as long as the app has got nothing: until the first event of a stream, and until the last byte of anything else, which is read whole
 * before it is passed on. One that can't be reached, times out, breaks off, is full or answers with a failure of its own is passed over; one that takes
 * longer to its first token than it usually does is raced with the next. Anything else a region says, errors included, is the app's to see. A stream
 * that breaks later goes on from another region (see `relay.ts`).
 */
import { ApiError } from '@signpost/contracts';
import { isOurs, type Region } from '../plan/regions.ts';
import { type Outcome, Tally } from './outcome.ts';
import { AllFailed, type Contender, noRegionAnswered, race } from './race.ts';
import type { FleetHealth } from './region-health.ts';
import { relay } from './relay.ts';
import { ResumableAnswer } from './resume.ts';
import { withinOr } from './timeout.ts';
import {
  type AskOptions,
  ask,
  type PassedHeaders,
  RegionFailure,
  type StreamedAnswer,
  type UpstreamRequest,
  type WholeAnswer,
} from './upstream.ts';
import { askingForUsage, UsageWatch } from './usage.ts';

export interface ForwardOptions extends AskOptions {
  readonly health: FleetHealth;
  readonly log: (event: string, fields: Record<string, unknown>) => void;
  /** Told once how the answer ended, whatever became of it: at the end of a stream, or when its app goes. */
  readonly onOutcome?: (outcome: Outcome) => void;
  /** Told of each piece of a stream that the app has taken. */
  readonly onPass?: () => void;
  /** Told what goes to the app: the data of each event, or the whole body. */
  readonly onData?: ((data: string) => void) | undefined;
}

/**
 * Regions that may answer, in the order they are to be asked in: asked for when somebody is needed, at first and where a stream breaks.
 *
 * @param failure what became of those that it named last. @throws that, where there is nobody else.
 */
export type Candidates = (signal: AbortSignal, failure?: ApiError) => Promise<readonly Region[]>;

/** These, and nobody else. */
export function only(regions: readonly Region[]): Candidates {
  return async (_, failure) => {
    if (failure !== undefined) throw failure;
    return regions;
  };
}

export interface Answer {
  /** Undefined where the answer has begun before any region's. */
  readonly region: string | undefined;
  readonly status: number;
  readonly headers: PassedHeaders;
  readonly body: string | ReadableStream<Uint8Array>;
}

const EVENT_STREAM = { 'content-type': 'text/event-stream', 'cache-control': 'no-cache' };

/**
 * The first answer among `candidates`.
 *
 * @throws ApiError (503, `no_region_answered`) saying what became of each; or, where all that answered were full, what the last of them said is the answer. Or
 * what `candidates` throws.
 */
export function forward(request: UpstreamRequest, candidates: Candidates, options: ForwardOptions): Promise<Answer> {
  const tally = new Tally((outcome) => options.onOutcome?.(outcome));
  return request.delivery === 'stream'
    ? forwardStream(request, candidates, options, tally)
    : forwardWhole(request, candidates, options, tally);
}

async function forwardWhole(
  request: UpstreamRequest,
  candidates: Candidates,
  options: ForwardOptions,
  tally: Tally,
): Promise<Answer> {
  try {
    const answer = await firstAnswer(request, candidates, options, tally, request.signal);
    if (answer.kind === 'stream') throw new Error('a whole answer was asked for');
    options.onData?.(answer.text);
    tally.answers(answer);
    return asAnswer(answer);
  } catch (error) {
    tellFailure(tally, request.signal, error);
    throw error;
  }
}

async function forwardStream(
  request: UpstreamRequest,
  candidates: Candidates,
  options: ForwardOptions,
  tally: Tally,
): Promise<Answer> {
  const gone = new AbortController();
  gone.signal.addEventListener('abort', () => tally.leaves(), { once: true });
  const onGone = () => gone.abort(request.signal.reason);
  if (request.signal.aborted) onGone();
  else request.signal.addEventListener('abort', onGone, { once: true });
  const resumable = ResumableAnswer.of(request, (used) => tally.used(used));
  const usage = new UsageWatch(request.fields ?? {}, (used) => tally.used(used));
  tally.counts(() => resumable?.counted ?? usage.counted);
  const plainFields = asked(request);
  const fields = resumable?.fields ?? plainFields;
  const first = firstAnswer({ ...request, fields, plainFields }, candidates, options, tally, gone.signal);
  let settled: WholeAnswer | StreamedAnswer | undefined;
  try {
    settled = await withinOr(first, options.timeouts.keepAliveMs, undefined);
  } catch (error) {
    tellFailure(tally, gone.signal, error);
    throw error;
  }
  if (settled?.kind === 'whole') {
    options.onData?.(settled.text);
    tally.answers(settled);
    return asAnswer(settled);
  }
  tally.responds(settled?.status ?? 200);

  const stream = relay(
    settled ?? first.then(asStream),
    {
      resumable,
      usage,
      tally,
      resume: (from, error) => resume(from, error),
      keepAliveMs: options.timeouts.keepAliveMs,
      onPass: options.onPass ?? (() => undefined),
      onData: options.onData ?? (() => undefined),
      onBreak: (region, error) => {
        if (!gone.signal.aborted) options.log('stream_broken', { region, path: request.path, reason: error.message });
      },
      onEnd: (region, outcome) => {
        const { breaker } = options.health.of(region);
        if (outcome === 'whole') breaker.succeed();
        else if (gone.signal.aborted) breaker.forget();
        else breaker.fail(Date.now());
      },
    },
    (reason) => gone.abort(reason),
  );
  if (settled === undefined) return { region: undefined, status: 200, headers: EVENT_STREAM, body: stream };
  const { status, headers, region } = settled;
  return { region, status, headers, body: stream };

  async function resume(from: StreamedAnswer, error: Error): Promise<StreamedAnswer> {
    gone.signal.throwIfAborted();
    if (resumable === undefined) throw error;
    const digests = from.headers['x-signpost-digest'];
    const { tokens } = resumable;
    // Half an answer by one version and half by another is none.
    const { byName: _, promptTokens, ...pinned } = request;
    const rest: UpstreamRequest = {
      ...pinned,
      fields: resumable.rest(digests),
      ...(promptTokens && { promptTokens: (region) => promptTokens(region) + tokens }),
    };
    // The one that broke may have been restarted meanwhile: it comes last.
    const others: Candidates = async (signal, failure) => {
      const regions = await candidates(signal, failure);
      const isBroken = ({ name }: Region) => name === from.region;
      return [...regions.filter((region) => !isBroken(region)), ...regions.filter(isBroken)];
    };
    const answer = asStream(await firstAnswer(rest, others, options, tally, gone.signal));
    options.log('stream_resumed', {
      from: from.region,
      to: answer.region,
      tokens,
      reason: error.message,
      path: request.path,
    });
    return answer;
  }
}

function asAnswer({ region, status, headers, text }: WholeAnswer): Answer {
  return { region, status, headers, body: text };
}

/** The fields that any region gets for a stream. */
function asked({ fields }: UpstreamRequest): UpstreamRequest['fields'] {
  return fields && askingForUsage(fields);
}

/** Nothing came of it. */
function tellFailure(tally: Tally, signal: AbortSignal, error: unknown): void {
  if (signal.aborted) {
    tally.leaves();
    return;
  }
  const { code, status } = ApiError.from(error);
  tally.breaks(code, status);
}

/** @throws as `forward`. */
async function firstAnswer(
  request: UpstreamRequest,
  candidates: Candidates,
  options: ForwardOptions,
  tally: Tally,
  signal: AbortSignal,
): Promise<WholeAnswer | StreamedAnswer> {
  for (let failure: ApiError | undefined; ; ) {
    const regions = await candidates(signal, failure);
    try {
      return await answerOf(request, regions, options, tally, signal);
    } catch (error) {
      if (!(error instanceof ApiError && error.cause instanceof AllFailed)) throw error;
      failure = error;
    }
  }
}

/** The first answer of these. @throws as `forward`. */
async function answerOf(
  request: UpstreamRequest,
  regions: readonly Region[],
  options: ForwardOptions,
  tally: Tally,
  signal: AbortSignal,
): Promise<WholeAnswer | StreamedAnswer> {
  const { health } = options;
  if (regions.length === 0) throw noRegionServes(request);
  // What was begun elsewhere a stranger can't go on with.
  const able = request.fields?.resume_token_ids == null ? regions : regions.filter(isOurs);
  const ordered = health.ordered(able, Date.now());
  try {
    const answer = await race(
      ordered.map((region, i): Contender<WholeAnswer | StreamedAnswer> => {
        // An answer that isn't streamed is one piece of work: two of them would cost twice, whoever is first. Nor is overflow for those that only take their time.
        const mayHedge = request.delivery === 'stream' && ordered[i + 1]?.role !== 'overflow';
        return {
          name: region.name,
          hedgeAfterMs: mayHedge ? health.of(region.name).hedgeAfterMs : undefined,
          run: (own) => attempt(request, region, options, tally, own),
        };
      }),
      signal,
    );
    if (answer.kind === 'whole') return answer;
    tally.streams(answer);
    // Who has won is no longer the race's to end, but goes with its app all the same.
    if (signal.aborted) answer.abort(signal.reason);
    else signal.addEventListener('abort', () => answer.abort(signal.reason), { once: true });
    return answer;
  } catch (error) {
    if (!(error instanceof AllFailed)) throw error;
    const busy = error.errors.findLast((one) => one instanceof RegionFailure && one.busy !== undefined);
    if (!(busy instanceof RegionFailure) || busy.busy === undefined) throw noRegionAnswered(error);
    return busy.busy;
  }
}

/** One region's part, and what is learned from it. */
async function attempt(
  request: UpstreamRequest,
  region: Region,
  options: ForwardOptions,
  tally: Tally,
  own: AbortController,
): Promise<WholeAnswer | StreamedAnswer> {
  const { health, log } = options;
  const { breaker, sent } = health.of(region.name);
  const started = Date.now();
  const tokens = request.promptTokens?.(region.name) ?? 0;
  breaker.begin(started);
  sent.add(tokens, started);
  tally.asks();
  try {
    const answer = await askByVersion(request, region, options, own);
    tally.asked('answered');
    health.of(region.name).answeredAt = Date.now();
    if (answer.kind === 'whole') breaker.succeed();
    else {
      health.of(region.name).took(Date.now() - started);
      const regionMs = ownMs(answer.headers);
      if (regionMs !== undefined) health.of(region.name).measured(answer.headersMs, regionMs, Date.now());
    }
    return answer;
  } catch (error) {
    if (!(error instanceof RegionFailure)) {
      tally.asked('cancelled');
      breaker.forget();
      throw error;
    }
    tally.asked('failed');
    // One that is full is well, say.
    if (error.isWell) breaker.succeed();
    else {
      breaker.fail(Date.now());
      health.of(region.name).failedAt = Date.now();
    }
    log('region_failed', { region: region.name, reason: error.message, path: request.path });
    throw error;
  } finally {
    sent.settle(tokens);
  }
}

function noRegionServes({ fields }: UpstreamRequest): ApiError {
  return new ApiError(
    'not_found_error',
    'no_region_for_model',
    `no region that the rules allow serves "${fields?.model}"`,
    {
      param: 'model',
    },
  );
}

/** Asks for the versions that the edge chose, and by name where this region doesn't know them: catalogues differ for some seconds after each change. */
async function askByVersion(
  { byName, ...request }: UpstreamRequest,
  region: Region,
  options: ForwardOptions,
  own: AbortController,
): Promise<WholeAnswer | StreamedAnswer> {
  const answer = await ask(request, region, options, own);
  const isPinned = byName !== undefined && request.fields?.model !== byName;
  if (!isPinned || answer.kind !== 'whole' || answer.errorCode !== 'model_not_found') return answer;
  options.log('version_unknown', { region: region.name, model: request.fields?.model, path: request.path });
  return ask({ ...request, fields: { ...request.fields, model: byName } }, region, options, own);
}

/** What a region says it took itself, until its headers. */
function ownMs(headers: PassedHeaders): number | undefined {
  const ms = /(?:^|,\s*)region;dur=(?<ms>[\d.]+)/.exec(headers['server-timing'] ?? '')?.groups?.ms;
  return ms === undefined ? undefined : Number(ms);
}

/** @throws RegionFailure for an answer in one piece where a stream has begun. */
function asStream(answer: WholeAnswer | StreamedAnswer): StreamedAnswer {
  if (answer.kind === 'stream') return answer;
  throw new RegionFailure(answer.region, `${answer.region} answered ${answer.status} with no stream`);
}
