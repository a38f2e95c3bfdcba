/**
 * The account of each request: what becomes known on its way, its headers, and, once it has ended, its record and counts.
 *
 * Nothing here waits for anything: records are told in batches, behind `waitUntil` (see `outbox.ts`).
 */
import { type ApiError, type DecisionRecord, HEARTBEAT_PATH } from '@signpost/contracts';
import type { CacheFinding } from '../answers/cache.ts';
import type { Ask } from '../ask/ask.ts';
import type { Outcome } from '../forward/outcome.ts';
import { type AppPlace, readPlace } from '../route/place.ts';
import type { Routing } from '../route/route.ts';
import { Hold } from './hold.ts';
import { Laps } from './laps.ts';
import type { Outbox } from './outbox.ts';
import { type End, type RecordOptions, recordOf } from './record.ts';
import type { SeriesCounts } from './series.ts';
import { type TraceContext, traceOf } from './trace.ts';

export interface AccountsOptions extends RecordOptions {
  readonly counts: SeriesCounts;
  readonly outbox: Outbox;
  /** Takes a record as a line of the log, and as a data point. */
  readonly publish: (record: DecisionRecord, json: string) => void;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
}

/** What comes of itself, every few seconds. */
const UNCOUNTED = new Set([HEARTBEAT_PATH, '/health', '/metrics', '/openapi.json']);

interface Opening {
  readonly request: Request;
  /** As the table of routes has it; undefined for one that there isn't. */
  readonly path: string | undefined;
  readonly requestId: string;
  /** `request.cf` on Cloudflare. */
  readonly cf: unknown;
  readonly waitUntil: (promise: Promise<unknown>) => void;
}

export class Accounts {
  readonly #options: AccountsOptions;

  constructor(options: AccountsOptions) {
    this.#options = options;
  }

  open(opening: Opening): Account {
    return new Account(this.#options, opening);
  }
}

export class Account {
  readonly trace: TraceContext;
  readonly laps = new Laps();
  readonly place: AppPlace;
  readonly #options: AccountsOptions;
  readonly #opening: Opening;
  readonly #at: number;
  #caller: { readonly tenant: string | undefined; readonly keyId: string | undefined } | undefined;
  #ask: Ask | undefined;
  #routing: Routing | undefined;
  #cache: CacheFinding | undefined;
  /** Where its end is told by the forwarding, later than its answer begins. */
  #hold: Hold | undefined;
  #isClosed = false;
  #errorCode: string | undefined;

  constructor(options: AccountsOptions, opening: Opening) {
    this.#options = options;
    this.#opening = opening;
    this.#at = options.now();
    this.trace = traceOf(opening.request.headers);
    this.place = readPlace(opening.cf);
  }

  /** Who asks is known. @param keyId of a managed key */
  admits(tenant: string | undefined, keyId?: string): void {
    this.#caller = { tenant, keyId };
    this.laps.lap('auth');
  }

  /** A prompt that is to be answered: from here on it is recorded. */
  asks(ask: Ask): void {
    this.#ask = ask;
    this.laps.lap('parse');
  }

  routes(routing: Routing): void {
    this.#routing = routing;
  }

  /** What the answer cache had, where the rule keeps answers. */
  caches(found: CacheFinding): void {
    this.#cache = found;
  }

  /** Regions are asked. What is returned is to be told of each piece that passes, and of the end. */
  forwards(): { readonly onPass: () => void; readonly onOutcome: (outcome: Outcome) => void } {
    const hold = new Hold(this.#opening.waitUntil);
    this.#hold = hold;
    return { onPass: () => hold.passes(), onOutcome: (outcome) => this.#close(outcome) };
  }

  /** No region is asked. */
  refuses({ code }: ApiError): void {
    this.#errorCode = code;
  }

  /** The answer, on its way to the app. */
  answers(response: Response): Response {
    if (this.#hold !== undefined) this.laps.lap('forward');
    response.headers.set('server-timing', this.laps.header(response.headers.get('server-timing')));
    response.headers.set('x-signpost-trace', this.trace.traceId);
    if (this.#hold !== undefined && !this.#isClosed) this.#hold.begins();
    if (this.#hold === undefined) {
      const { status } = response;
      this.#close({
        ending: status < 400 ? 'whole' : status < 500 ? 'refused' : 'failed',
        status,
        errorCode: this.#errorCode,
      });
    }
    return response;
  }

  /** The app went before its answer. */
  leaves(): void {
    if (this.#hold === undefined) this.#close({ ending: 'left', status: 499, errorCode: undefined });
  }

  #close(end: End): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    if (UNCOUNTED.has(this.#opening.path ?? '')) return;
    this.#count(end);
    if (this.#isGeneration()) this.#record(end);
    const flush = this.#options.outbox.due();
    if (this.#hold !== undefined) this.#hold.ends(flush);
    else if (flush !== undefined) this.#opening.waitUntil(flush);
  }

  /** Of what nobody is known to have asked there is no record: it would drive out the others. */
  #isGeneration(): boolean {
    const { path } = this.#opening;
    return this.#caller !== undefined && (path === '/v1/chat/completions' || path === '/v1/completions');
  }

  #record(end: End): void {
    const { sample, outbox, publish } = this.#options;
    if (sample < 1 && Math.random() >= sample) return;
    const { requestId: id, path = '', request } = this.#opening;
    const { tenant, keyId } = this.#caller ?? {};
    const { place, trace, laps } = this;
    const at = this.#at;
    const known = { id, at, path, headers: request.headers, place, trace, laps, tenant, keyId };
    const record = recordOf(
      { ...known, ask: this.#ask, routing: this.#routing, cache: this.#cache, end },
      this.#options,
    );
    const json = JSON.stringify(record);
    publish(record, json);
    outbox.put({ id, tenant, at, json });
  }

  #count(end: End): void {
    const { counts } = this.#options;
    const { path = 'other' } = this.#opening;
    const { status } = end;
    const routing = this.#routing;
    const outcome = 'regions' in end ? end : undefined;
    const region = outcome?.regions.at(-1);
    // Names that no region knows are as many as somebody likes.
    const model =
      routing?.resolution.kind === 'serve' && status < 400 ? expertsOf(routing.resolution.model) : undefined;
    counts.add('signpost_requests_total', { path, model, rule: routing?.decision.rule, region, status });
    if (routing !== undefined) counts.add('signpost_classifier_total', { state: routing.classification.state });
    if (this.#cache !== undefined) counts.add('signpost_cache_total', { state: this.#cache.state });
    if (outcome === undefined) return;
    const { totalMs } = this.laps;
    counts.add('signpost_endings_total', { ending: end.ending });
    counts.observe('signpost_request_duration_seconds', { path }, totalMs / 1e3);
    if (outcome.firstTokenMs !== undefined) {
      const before = Math.max(0, totalMs - outcome.totalMs);
      counts.observe('signpost_time_to_first_token_seconds', { region }, (before + outcome.firstTokenMs) / 1e3);
    }
    const { promptTokens = 0, completionTokens = 0, cachedTokens = 0 } = outcome.usage ?? {};
    counts.add('signpost_tokens_total', { model, type: 'input' }, promptTokens);
    counts.add('signpost_tokens_total', { model, type: 'output' }, completionTokens);
    counts.add('signpost_tokens_total', { model, type: 'cached' }, cachedTokens);
    counts.add('signpost_retries_total', {}, outcome.retries);
    counts.add('signpost_hedges_total', {}, outcome.hedges);
    counts.add('signpost_resumes_total', {}, outcome.resumes);
  }
}

/** `math@stable:1+chat:0.3` as `math+chat`: weights and versions would make a series each. */
function expertsOf(model: string): string {
  return model.replace(/[@:][^+]*/g, '').slice(0, 128);
}
