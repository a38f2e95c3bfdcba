/**
 * The region's HTTP API.
 */
import { randomUUID } from 'node:crypto';
import {
  ApiError,
  chatRequestSchema,
  completionRequestSchema,
  type Digest,
  detokenizeRequestSchema,
  PREFETCH_HEADER,
  parseBody,
  presentsKey,
  readText,
  SeenTokens,
  tokenizeRequestSchema,
  verifyRequest,
} from '@signpost/contracts';
import { type Context, Hono } from 'hono';
import type { Logger } from 'pino';
import type { CatalogueWatch } from '../experts/catalogue-watch.ts';
import type { StandingOrders } from '../experts/standing.ts';
import type { ExpertTokenizers } from '../experts/tokenizers.ts';
import { settledWithin } from '../settled-within.ts';
import { type Asked, promptOf, spanOf, timeoutOf } from './account.ts';
import { adminRoutes, type Draining } from './admin.ts';
import { type AnswerIdentity, chatChunks, chatCompletion, prepareChat } from './chat.ts';
import { completion, completionChunks, prepareCompletion } from './completions.ts';
import { listExperts } from './experts.ts';
import type { Addressee, Generation, GenerationDeps, RequestLimits } from './generation.ts';
import type { Heartbeats } from './heartbeat.ts';
import type { Metrics } from './metrics.ts';
import { findModel, listModels } from './models.ts';
import { type StreamEnd, sseResponse } from './sse.ts';
import { detokenize, tokenize } from './tokenize.ts';
import type { Tracing } from './tracing.ts';

export interface AppDeps extends GenerationDeps {
  readonly catalogue: CatalogueWatch;
  readonly tokenizers: ExpertTokenizers;
  readonly region: string;
  /** Verifies the edge's requests; undefined where the server listens on this machine only. */
  readonly acceptedKeys: readonly Uint8Array[] | undefined;
  readonly heartbeats: Heartbeats;
  readonly metrics: Metrics;
  /** Hash of the key that metrics are read with; undefined where everybody who reaches the server may. */
  readonly metricsKey: Digest | undefined;
  readonly tracing: Tracing;
  readonly standing: StandingOrders;
  /** Hash of the key of the admin API; undefined where that is off. */
  readonly adminKey: Digest | undefined;
  readonly log: Logger;
  /** Whether the log tells what was asked, too. */
  readonly logPrompts: boolean;
  /** Whether new requests are refused. */
  readonly draining: Draining;
}

/** `Bindings`: what whoever took the request in says of it. */
type Env = {
  Bindings: { readonly arrivedAt: number };
  Variables: { requestId: string; arrived: number; body: string; tenant: string };
};
type AppContext = Context<Env>;

/** Experts that one request may announce. */
const MAX_HINTS = 4;

export function createApp(deps: AppDeps): Hono<Env> {
  const { engine, tokenizers, catalogue, log } = deps;

  /** The experts that a model name stands for, and how they are spoken to. */
  async function addressed(model: string): Promise<Addressee> {
    const mixture = await catalogue.resolve(model);
    const { tokenizer, vocabSize } = await tokenizers.of(mixture.map(({ version }) => version));
    return { mixture, tokenizer, vocabSize };
  }

  /** Who is to answer, and what is left of the request's time when that is known. @throws ApiError (504) when nothing is. */
  async function addressedInTime(context: AppContext, model: string): Promise<[Addressee, RequestLimits]> {
    const { tenant, timeoutMs } = limitsOf(context);
    const pending = addressed(model);
    if (timeoutMs === undefined) return [await pending, { tenant, timeoutMs }];
    const began = performance.now();
    const isKnown = await settledWithin(pending, timeoutMs);
    const leftMs = Math.ceil(timeoutMs - (performance.now() - began));
    // A timer may go off a little before its time.
    if (!isKnown || leftMs <= 0) {
      // Its failure is nobody's any more.
      pending.catch(() => undefined);
      throw storeTooSlow(timeoutMs);
    }
    return [await pending, { tenant, timeoutMs: leftMs }];
  }

  const startedAt = Math.floor(Date.now() / 1000);
  const seen = new SeenTokens();
  const app = new Hono<Env>();

  app.use(async function identify(context, next) {
    context.set('arrived', performance.now());
    const given = context.req.header('x-request-id') ?? '';
    context.set('requestId', /^[\w.:-]{1,128}$/.test(given) ? given : randomUUID());
    await next();
    context.res.headers.set('x-request-id', context.get('requestId'));
    // What is left of the time that the edge sees is the network's.
    context.res.headers.set('server-timing', `region;dur=${(performance.now() - context.get('arrived')).toFixed(1)}`);
  });

  app.get('/health/live', (context) =>
    engine.isAlive ? context.json({ status: 'live' }) : context.json({ status: 'dead' }, 500),
  );
  app.get('/health/ready', (context) => {
    const status = deps.draining.isOn ? 'draining' : engine.isAlive ? 'ready' : 'dead';
    return context.json({ status }, status === 'ready' ? 200 : 503);
  });
  app.get('/metrics', async (context) => {
    await checkMetricsKey(deps.metricsKey, context.req.header('authorization'));
    return context.text(await deps.metrics.render(), 200, { 'content-type': deps.metrics.contentType });
  });
  app.all('/health/live', onlyTakes('GET'));
  app.all('/health/ready', onlyTakes('GET'));
  app.all('/metrics', onlyTakes('GET'));

  // Apart from inference, with a key of its own.
  app.route('/admin', adminRoutes(deps));

  app.use(async function authenticate(context, next) {
    const body = await readText(context.req.raw);
    if (deps.acceptedKeys === undefined) context.set('tenant', '');
    else {
      const { method, path } = context.req;
      const caller = await verifyRequest(
        deps.acceptedKeys,
        context.req.header('authorization') ?? null,
        { region: deps.region, method, path, body },
        seen,
        context.env.arrivedAt,
      );
      context.set('tenant', caller.tenant ?? '');
    }
    context.set('body', body);
    await next();
  });

  app.get('/heartbeat', async (context) => context.json(await deps.heartbeats.current()));

  app.get('/v1/models', async (context) =>
    context.json({ object: 'list', data: listModels(await catalogue.catalogue(), engine.facts.base, startedAt) }),
  );
  app.get('/v1/models/:id', async (context) =>
    context.json(findModel(await catalogue.catalogue(), engine.facts.base, startedAt, context.req.param('id'))),
  );

  app.get('/v1/experts', async (context) => context.json(await listExperts(deps, await catalogue.catalogue())));

  app.post('/v1/chat/completions', async (context) => {
    const request = parseBody(context.get('body'), chatRequestSchema);
    refuseWhileDraining(deps);
    hint(context);
    const [addressee, limits] = await addressedInTime(context, request.model);
    const chat = prepareChat(deps, addressee, request, limits);
    const identity = identityOf(context, 'chatcmpl', request.model);
    const asked = { operation: 'chat' as const, request };
    return answer(context, chat.generation, asked, {
      whole: (signal) => chatCompletion(chat, identity, signal),
      stream: (signal) => chatChunks(chat, identity, signal),
    });
  });

  app.post('/v1/completions', async (context) => {
    const request = parseBody(context.get('body'), completionRequestSchema);
    refuseWhileDraining(deps);
    hint(context);
    const [addressee, limits] = await addressedInTime(context, request.model);
    const text = prepareCompletion(deps, addressee, request, limits);
    const identity = identityOf(context, 'cmpl', request.model);
    const asked = { operation: 'text_completion' as const, request };
    return answer(context, text.generation, asked, {
      whole: (signal) => completion(text, identity, signal),
      stream: (signal) => completionChunks(text, identity, signal),
    });
  });

  app.post('/tokenize', async (context) => {
    const request = parseBody(context.get('body'), tokenizeRequestSchema);
    const { tokenizer } = await addressed(request.model ?? 'base');
    return context.json(tokenize(tokenizer, engine.facts, request));
  });
  app.post('/detokenize', async (context) => {
    const request = parseBody(context.get('body'), detokenizeRequestSchema);
    const { tokenizer } = await addressed(request.model ?? 'base');
    return context.json(detokenize(tokenizer, request));
  });

  app.all('/tokenize', onlyTakes('POST'));
  app.all('/detokenize', onlyTakes('POST'));
  app.all('/heartbeat', onlyTakes('GET'));
  app.all('/v1/experts', onlyTakes('GET'));
  app.all('/v1/models', onlyTakes('GET'));
  app.all('/v1/models/:id', onlyTakes('GET'));
  app.all('/v1/chat/completions', onlyTakes('POST'));
  app.all('/v1/completions', onlyTakes('POST'));
  app.notFound(({ req: { method, path } }) => {
    throw new ApiError('not_found_error', 'unknown_path', `there is nothing at ${method} ${path}`);
  });

  app.onError((error, context) => {
    const apiError = ApiError.from(error);
    const requestId = context.get('requestId');
    logFailure(requestId, apiError);
    return apiError.toResponse({ 'x-request-id': requestId });
  });

  /** Brings in what the edge expects to be asked for soon. */
  function hint(context: AppContext): void {
    const names = (context.req.header(PREFETCH_HEADER) ?? '').split(',').map((name) => name.trim());
    deps.standing.hint(names.filter((name) => name !== '').slice(0, MAX_HINTS));
  }

  /** Answers whole or streamed. Either way an app that goes away stops the engine's work. */
  async function answer(
    context: AppContext,
    generation: Generation,
    asked: Asked,
    run: { whole(signal: AbortSignal): Promise<object>; stream(signal: AbortSignal): AsyncGenerator<unknown> },
  ): Promise<Response> {
    const requestId = context.get('requestId');
    const started = performance.now();
    const gone = new AbortController();
    const onGone = () => gone.abort(clientGone());
    const app = context.req.raw.signal;
    // It may have left while its request was being prepared.
    if (app.aborted) onGone();
    else app.addEventListener('abort', onGone, { once: true });
    const headers = digestHeader(generation);
    const account = (outcome: StreamEnd['kind'], error?: ApiError) => {
      const ms = Math.round(performance.now() - started);
      const prompt = deps.logPrompts ? { prompt: promptOf(asked) } : {};
      log.info(
        { requestId, digests: generation.digests, ...generation.usage, ms, outcome, ...prompt },
        'request ended',
      );
      deps.tracing.record(spanOf((name) => context.req.header(name), requestId, asked, generation, error));
    };
    if (asked.request.stream !== true) {
      try {
        const whole = await run.whole(gone.signal);
        account('complete');
        return context.json(whole, 200, headers);
      } catch (error) {
        account(gone.signal.aborted ? 'client gone' : 'failed', ApiError.from(error));
        throw error;
      }
    }
    return sseResponse(run.stream(gone.signal), {
      headers,
      onEnd: (end) => {
        if (end.kind === 'client gone') onGone();
        const error = end.kind === 'failed' ? ApiError.from(end.error) : undefined;
        if (error !== undefined) logFailure(requestId, error);
        account(end.kind, error);
      },
    });
  }

  /** Failures of ours with their cause; what the app did wrong without. */
  function logFailure(requestId: string, { status, code, cause, stack }: ApiError): void {
    deps.metrics.onRefused(code);
    if (status >= 500) log.error({ requestId, status, code, err: cause ?? stack }, 'request failed');
    else log.info({ requestId, status, code }, 'request refused');
  }

  return app;
}

function identityOf(context: AppContext, kind: 'chatcmpl' | 'cmpl', model: string): AnswerIdentity {
  return { id: `${kind}-${context.get('requestId')}`, created: Math.floor(Date.now() / 1000), model };
}

/** Answers the methods that the routes before it don't. */
function onlyTakes(allow: 'GET' | 'POST'): (context: AppContext) => Response {
  return ({ req: { path } }) =>
    new ApiError('invalid_request_error', 'method_not_allowed', `${path} takes ${allow}`, { status: 405 }).toResponse({
      allow,
    });
}

/** What holds for a request beside its body. @throws ApiError (400) for a deadline that is none. */
function limitsOf(context: AppContext): RequestLimits {
  return { tenant: context.get('tenant'), timeoutMs: timeoutOf((name) => context.req.header(name)) };
}

/** @throws ApiError (401) for another key than the one metrics are read with. */
async function checkMetricsKey(key: Digest | undefined, authorization: string | undefined): Promise<void> {
  if (key === undefined || (await presentsKey(authorization, key))) return;
  throw new ApiError(
    'authentication_error',
    'invalid_metrics_key',
    'metrics are read with "Authorization: Bearer <key>", where <key> is the SIGNPOST_METRICS_KEY that this region was started with',
  );
}

/** What answers, by content: the experts' digests in the order of the model name; none for the base. */
function digestHeader({ digests }: Generation): Record<string, string> {
  return digests.length === 0 ? {} : { 'x-signpost-digest': digests.join('+') };
}

/** 499 as in nginx: nobody reads it but the log. */
function clientGone(): ApiError {
  return new ApiError('invalid_request_error', 'client_gone', 'the client went away', { status: 499 });
}

function storeTooSlow(timeoutMs: number): ApiError {
  return new ApiError(
    'server_error',
    'deadline_exceeded',
    `the request's ${timeoutMs} ms passed while this region's store was asked about its experts; allow more time, or try another region`,
    { status: 504 },
  );
}

function refuseWhileDraining({ draining }: AppDeps): void {
  if (draining.isOn)
    throw new ApiError('server_error', 'draining', 'this region takes no new requests; another one may answer', {
      status: 503,
    });
}
