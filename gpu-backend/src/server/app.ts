/**
 * The region's HTTP API.
 */
import { randomUUID } from 'node:crypto';
import {
  ApiError,
  chatRequestSchema,
  completionRequestSchema,
  parseBody,
  readText,
  SeenTokens,
  verifyRequest,
} from '@signpost/contracts';
import { type Context, Hono } from 'hono';
import type { Logger } from 'pino';
import { chatChunks, chatCompletion, chatFields, chatPrompt } from './chat.ts';
import {
  CompletionWriter,
  completion,
  completionChunks,
  completionFields,
  completionPrompt,
  completionScoring,
} from './completions.ts';
import { Generation, type GenerationDeps } from './generation.ts';
import type { Heartbeats } from './heartbeat.ts';
import { findModel, listModels } from './models.ts';
import { sseResponse } from './sse.ts';

export interface AppDeps extends GenerationDeps {
  readonly region: string;
  /** Verifies the edge's requests; undefined where the server listens on this machine only. */
  readonly signingKey: Uint8Array | undefined;
  readonly heartbeats: Heartbeats;
  readonly log: Logger;
  /** Whether new requests are refused because the server is about to stop. */
  readonly isDraining: () => boolean;
}

type Env = { Variables: { requestId: string; body: string } };
type AppContext = Context<Env>;

export function createApp(deps: AppDeps): Hono<Env> {
  const { engine, tokenizer, catalogue, log } = deps;
  const startedAt = Math.floor(Date.now() / 1000);
  const seen = new SeenTokens();
  const app = new Hono<Env>();

  app.use(async function identify(context, next) {
    const given = context.req.header('x-request-id') ?? '';
    context.set('requestId', /^[\w.:-]{1,128}$/.test(given) ? given : randomUUID());
    await next();
    context.res.headers.set('x-request-id', context.get('requestId'));
  });

  app.get('/health/live', (context) =>
    engine.isAlive ? context.json({ status: 'live' }) : context.json({ status: 'dead' }, 500),
  );
  app.get('/health/ready', (context) => {
    const status = deps.isDraining() ? 'draining' : engine.isAlive ? 'ready' : 'dead';
    return context.json({ status }, status === 'ready' ? 200 : 503);
  });

  app.use(async function authenticate(context, next) {
    const body = await readText(context.req.raw);
    if (deps.signingKey !== undefined) {
      const { method, path } = context.req;
      await verifyRequest(
        deps.signingKey,
        context.req.header('authorization') ?? null,
        { region: deps.region, method, path, body },
        seen,
      );
    }
    context.set('body', body);
    await next();
  });

  app.get('/heartbeat', async (context) => context.json(await deps.heartbeats.current()));

  app.get('/v1/models', async (context) =>
    context.json({ object: 'list', data: listModels(await catalogue.catalogue(), engine.facts.base, startedAt) }),
  );
  app.get('/v1/models/:id', async (context) =>
    context.json(
      findModel(listModels(await catalogue.catalogue(), engine.facts.base, startedAt), context.req.param('id')),
    ),
  );

  app.post('/v1/chat/completions', async (context) => {
    const request = parseBody(context.get('body'), chatRequestSchema);
    refuseWhileDraining(deps);
    const fields = chatFields(request);
    const generation = await Generation.prepare(deps, chatPrompt(tokenizer, request), fields, {
      scoresPrompt: false,
      logprobs: undefined,
    });
    const identity = {
      id: `chatcmpl-${context.get('requestId')}`,
      created: Math.floor(Date.now() / 1000),
      model: request.model,
    };
    return answer(context, generation, request.stream === true, {
      whole: (signal) => chatCompletion(generation, identity, signal),
      stream: (signal) => chatChunks(generation, identity, request.stream_options?.include_usage === true, signal),
    });
  });

  app.post('/v1/completions', async (context) => {
    const request = parseBody(context.get('body'), completionRequestSchema);
    refuseWhileDraining(deps);
    const prompt = completionPrompt(tokenizer, request);
    const generation = await Generation.prepare(deps, prompt, completionFields(request), completionScoring(request));
    const identity = {
      id: `cmpl-${context.get('requestId')}`,
      created: Math.floor(Date.now() / 1000),
      model: request.model,
    };
    const writer = new CompletionWriter(tokenizer, request, prompt);
    return answer(context, generation, request.stream === true, {
      whole: (signal) => completion(generation, identity, writer, signal),
      stream: (signal) =>
        completionChunks(generation, identity, writer, request.stream_options?.include_usage === true, signal),
    });
  });

  const allowed: Readonly<Record<string, string>> = {
    '/v1/chat/completions': 'POST',
    '/v1/completions': 'POST',
    '/v1/models': 'GET',
    '/heartbeat': 'GET',
  };
  app.notFound((context) => {
    const { method, path } = context.req;
    const allow = allowed[path];
    if (allow === undefined)
      throw new ApiError('not_found_error', 'unknown_path', `there is nothing at ${method} ${path}`);
    return new ApiError('invalid_request_error', 'method_not_allowed', `${path} takes ${allow}`, {
      status: 405,
    }).toResponse({ allow });
  });

  app.onError((error, context) => {
    const apiError = ApiError.from(error);
    const requestId = context.get('requestId');
    if (apiError.status >= 500)
      log.error({ requestId, code: apiError.code, err: apiError.cause ?? apiError }, 'request failed');
    else log.info({ requestId, code: apiError.code, status: apiError.status }, 'request refused');
    return apiError.toResponse({
      'x-request-id': requestId,
      ...(apiError.status === 429 ? { 'retry-after': '1' } : {}),
    });
  });

  /** Answers whole or streamed. Either way an app that goes away stops the engine's work. */
  async function answer(
    context: AppContext,
    generation: Generation,
    isStream: boolean,
    run: { whole(signal: AbortSignal): Promise<object>; stream(signal: AbortSignal): AsyncGenerator<unknown> },
  ): Promise<Response> {
    const requestId = context.get('requestId');
    const started = performance.now();
    const gone = new AbortController();
    const abort = () => gone.abort(new Error('the client went away'));
    context.req.raw.signal.addEventListener('abort', abort, { once: true });
    const headers = { 'x-signpost-digest': generation.digests.join('+') };
    const account = (outcome: string) => {
      const ms = Math.round(performance.now() - started);
      log.info({ requestId, digests: generation.digests, ...generation.usage, ms, outcome }, 'request ended');
    };
    if (!isStream) {
      const whole = await run.whole(gone.signal);
      account('complete');
      return context.json(whole, 200, headers);
    }
    // The first event before the headers: a request that fails without an answer gets a status of its own.
    const events = run.stream(gone.signal);
    const first = await events.next();
    return sseResponse(accounted(first, events, account), {
      headers,
      onCancel: () => {
        abort();
        account('client gone');
      },
      onError: (error) => {
        log.error({ requestId, err: error }, 'stream failed');
        account('failed');
      },
    });
  }

  return app;
}

async function* accounted(
  first: IteratorResult<unknown>,
  rest: AsyncGenerator<unknown>,
  account: (outcome: string) => void,
): AsyncGenerator<unknown> {
  try {
    if (first.done !== true) yield first.value;
    yield* rest;
    account('complete');
  } finally {
    await rest.return(undefined);
  }
}

function refuseWhileDraining({ isDraining }: AppDeps): void {
  if (isDraining())
    throw new ApiError('server_error', 'draining', 'this region is about to stop; another one may answer', {
      status: 503,
    });
}
