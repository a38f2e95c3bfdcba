/**
 * The edge's API, on web standards: a `Request` in, a `Response` out.
 *
 * auth → parse → admit → classify → rules → plan → forward. Platform-free; `worker.ts` binds it to Cloudflare.
 */
import {
  ApiError,
  type Catalogue,
  HEARTBEAT_AUDIENCE,
  HEARTBEAT_PATH,
  type Heartbeat,
  heartbeatSchema,
  type ModelCard,
  type ModelList,
  PREFETCH_HEADER,
  parseBody,
  readText,
  SeenTokens,
  verifyRequest,
} from '@signpost/contracts';
import type { Account, Accounts } from './accounts/accounts.ts';
import { type FeedbackOptions, listFeedback, takeFeedback } from './accounts/feedback.ts';
import { answerMetrics } from './accounts/metrics.ts';
import { ADMIN_PATH, type Admin } from './admin/admin.ts';
import { answerError } from './answer-error.ts';
import type { AnswerCache } from './answers/cache.ts';
import { cacheability } from './answers/cacheable.ts';
import { AnswerUses } from './answers/uses.ts';
import { type GenerationPath, type RuleChanges, readAsk, upstreamFields } from './ask/ask.ts';
import { readTokensAsk, type TokensPath, tokensFields } from './ask/tokens.ts';
import { type Caller, identify } from './auth/keys.ts';
import type { ForeignLoads } from './backends/foreign-load.ts';
import { strangersModels } from './backends/models.ts';
import type { Waker } from './backends/waker.ts';
import type { Cached } from './cached.ts';
import type { Classifier } from './classify/classifier.ts';
import type { HeardBeat } from './fleet/roll.ts';
import { type Answer, type ForwardOptions, forward } from './forward/forward.ts';
import type { Outcome } from './forward/outcome.ts';
import type { FleetHealth } from './forward/region-health.ts';
import type { UpstreamRequest } from './forward/upstream.ts';
import { allowsModel, refusalOfModel } from './keys/allowed-models.ts';
import type { Admission, Door, Guest } from './keys/door.ts';
import { boundBy, chargeFor, reserveFor } from './keys/tokens.ts';
import { openapiText } from './openapi/document.ts';
import { nobodyAwake, type PlanFacts, planRegions, worthWaking } from './plan/plan.ts';
import { PrefixMemory } from './plan/prefixes.ts';
import { isOurs } from './plan/regions.ts';
import { explain } from './route/explain.ts';
import { routingHeaders } from './route/headers.ts';
import { type Asker, type Routing, routeAsk, type ServedResolution } from './route/route.ts';
import type { RulesStore } from './rules/store.ts';
import type { Settings } from './settings/settings.ts';

export interface GatewayParts {
  readonly settings: Settings;
  readonly rules: RulesStore;
  readonly classifier: Classifier;
  /** Lets requests in by their keys. */
  readonly door: Door;
  readonly admin: Admin;
  /** What regions have said of themselves. */
  readonly fleet: Cached<readonly HeardBeat[]>;
  /** Versions and sizes of experts; undefined where R2 has no catalogue. */
  readonly catalogue: Cached<Catalogue | undefined>;
  readonly answers: AnswerCache;
  /** Takes what a region says; false where it has said something newer. */
  readonly hear: (beat: Heartbeat) => Promise<boolean>;
  readonly log: (event: string, fields: Record<string, unknown>) => void;
  readonly health: FleetHealth;
  /** How busy strangers' servers are. */
  readonly foreignLoads: ForeignLoads;
  readonly waker: Waker;
  readonly accounts: Accounts;
  readonly feedback: FeedbackOptions;
  /** What all isolates have counted, as Prometheus reads it. */
  readonly metrics: () => Promise<string>;
}

/** What the platform knows about one request beside itself. */
export interface RequestContext {
  /** `request.cf` on Cloudflare. */
  readonly cf: unknown;
  readonly requestId: string;
  readonly waitUntil: (promise: Promise<unknown>) => void;
}

interface Handling extends RequestContext {
  readonly account: Account;
}

/** A request that goes to a region. */
interface Serving {
  readonly caller: Caller;
  readonly ask: Parameters<typeof routeAsk>[0];
  readonly path: string;
  readonly delivery: UpstreamRequest['delivery'];
  /** The most that it may come to. */
  readonly tokens: number;
  /** What the key's limits change in the request beside the rules: what is kept of its answer is kept by that, too. */
  readonly bound: (changes: RuleChanges, guest: Guest) => RuleChanges;
  /** What the region gets. */
  readonly fields: (served: ServedResolution) => Record<string, unknown>;
  /** Tokens that it came to. */
  readonly charge: (outcome: Outcome) => number;
  readonly purpose: 'answer' | 'tokens';
}

type Handler = (request: Request, context: Handling) => Promise<Response>;

export class Gateway {
  readonly #parts: GatewayParts;
  readonly #seen = new SeenTokens();
  readonly #prefixes = new PrefixMemory(Date.now);
  readonly #routes: Readonly<Record<string, Readonly<Record<string, Handler>>>>;

  constructor(parts: GatewayParts) {
    this.#parts = parts;
    this.#routes = {
      '/v1/chat/completions': { POST: (request, context) => this.#generate(request, context, '/v1/chat/completions') },
      '/v1/completions': { POST: (request, context) => this.#generate(request, context, '/v1/completions') },
      '/tokenize': { POST: (request, context) => this.#tokens(request, context, '/tokenize') },
      '/detokenize': { POST: (request, context) => this.#tokens(request, context, '/detokenize') },
      '/v1/route': { POST: (request, context) => this.#explain(request, context) },
      '/v1/models': { GET: (request, context) => this.#models(request, context) },
      '/v1/feedback': {
        POST: (request, context) => this.#takeFeedback(request, context),
        GET: (request, context) => this.#listFeedback(request, context),
      },
      '/metrics': { GET: (request) => answerMetrics(request, parts.settings, parts.metrics) },
      [HEARTBEAT_PATH]: { POST: (request) => this.#hear(request) },
      '/health': { GET: async (_, context) => this.#status(context) },
      '/openapi.json': {
        GET: async () => new Response(openapiText(), { headers: { 'content-type': 'application/json' } }),
      },
    };
  }

  /** `GET /health`: all there are. */
  get endpoints(): string[] {
    return Object.entries(this.#routes).flatMap(([path, methods]) =>
      Object.keys(methods).map((one) => `${one} ${path}`),
    );
  }

  async handle(request: Request, context: RequestContext): Promise<Response> {
    const { pathname } = new URL(request.url);
    const path = Object.hasOwn(this.#routes, pathname) ? pathname : undefined;
    const account = this.#parts.accounts.open({ request, path, ...context });
    try {
      return account.answers(await this.#handle(request, pathname, { ...context, account }));
    } catch (error) {
      if (request.signal.aborted) account.leaves();
      const told = answerError(error, request, context.requestId, this.#parts.log);
      account.refuses(told.error);
      return account.answers(told.response);
    }
  }

  /** @throws ApiError for whatever is not served. */
  async #handle(request: Request, pathname: string, context: Handling): Promise<Response> {
    if (pathname.startsWith(ADMIN_PATH)) return this.#parts.admin.handle(request, pathname, context.waitUntil);
    const methods = Object.hasOwn(this.#routes, pathname) ? this.#routes[pathname] : undefined;
    if (methods === undefined)
      throw new ApiError('not_found_error', 'unknown_path', `there is nothing at ${request.method} ${pathname}`);
    const handler = Object.hasOwn(methods, request.method) ? methods[request.method] : undefined;
    if (handler === undefined) {
      const allow = Object.keys(methods).join(', ');
      return new ApiError('invalid_request_error', 'method_not_allowed', `${pathname} takes ${allow}`, {
        status: 405,
      }).toResponse({ allow });
    }
    try {
      return await handler(request, context);
    } finally {
      // Only now: starting keeps the isolate busy, and this answer is under way.
      context.waitUntil(this.#parts.classifier.start());
    }
  }

  async #generate(request: Request, context: Handling, path: GenerationPath): Promise<Response> {
    const caller = await this.#caller(request, context);
    const ask = await this.#read(caller, context, readAsk(request, path));
    context.account.asks(ask);
    const reserve = reserveFor(ask);
    return this.#serve(request, context, {
      caller,
      ask,
      path,
      delivery: ask.delivery,
      tokens: reserve.tokens,
      bound: (changes, guest) => boundBy(changes, guest, reserve),
      fields: ({ chosen, changes }) => upstreamFields(ask, chosen.name, changes),
      charge: (outcome) => chargeFor(outcome, ask.promptTokens),
      purpose: 'answer',
    });
  }

  async #tokens(request: Request, context: Handling, path: TokensPath): Promise<Response> {
    const caller = await this.#caller(request, context);
    const ask = await this.#read(caller, context, readTokensAsk(request, path));
    context.account.laps.lap('parse');
    return this.#serve(request, context, {
      caller,
      ask,
      path,
      delivery: 'whole',
      tokens: 0,
      bound: (changes) => changes,
      fields: ({ model, changes }) => tokensFields(ask, model, changes),
      charge: () => 0,
      purpose: 'tokens',
    });
  }

  /** Lets a request in, decides it, and forwards it: what it holds of its key's limits it gives back at its end, whatever that is. */
  async #serve(request: Request, context: Handling, serving: Serving): Promise<Response> {
    const { account, waitUntil } = context;
    const admission = await this.#parts.door.admit(serving.caller, serving.tokens, waitUntil);
    account.admits(admission.tenant, admission.keyId);
    try {
      return await this.#decide(request, context, serving, admission);
    } catch (error) {
      // Where an answer was begun, its outcome has been told before.
      admission.end(0);
      throw error;
    }
  }

  async #decide(request: Request, context: Handling, serving: Serving, admission: Admission): Promise<Response> {
    const { account } = context;
    const routing = await this.#route(serving.ask, askerOf(admission, request, context), context);
    account.routes(routing);
    const headers = { ...routingHeaders(routing), ...admission.headers };
    const refuse = (error: ApiError) => {
      admission.end(0);
      account.refuses(error);
      return error.toResponse(headers);
    };
    if (routing.resolution.kind === 'refuse')
      return refuse(new ApiError('permission_error', 'refused_by_rule', routing.resolution.reason));
    const resolution = { ...routing.resolution, changes: serving.bound(routing.resolution.changes, admission) };
    const refusal = refusalOfModel(admission.models, resolution.model);
    if (refusal !== undefined) return refuse(refusal);
    for (const region of worthWaking(resolution.plan)) this.#parts.waker.wake(region, context.waitUntil);
    const awake = resolution.plan.filter((planned) => !planned.isAsleep);
    if (awake.length === 0 && resolution.plan.length > 0) return refuse(nobodyAwake(resolution.plan));
    const uses = await this.#cached(request, context, serving, admission, resolution, headers);
    if (uses instanceof Response) {
      admission.end(0);
      return withHeaders(uses, headers);
    }
    const ahead =
      serving.purpose === 'tokens' ? [] : resolution.ahead.filter((model) => allowsModel(admission.models, model));
    return this.#forward(
      {
        method: 'POST',
        path: serving.path,
        fields: serving.fields(resolution),
        ...(serving.purpose === 'tokens' ? {} : { byName: resolution.model }),
        delivery: serving.delivery,
        tenant: admission.tenant,
        headers: {
          ...passedOn(request, context),
          ...(ahead.length === 0 ? {} : { [PREFETCH_HEADER]: ahead.join(',') }),
        },
        signal: request.signal,
      },
      // Token ids are those of our tokenizer.
      awake.map(({ region }) => region).filter((region) => serving.purpose === 'answer' || isOurs(region)),
      headers,
      account,
      {
        onData: uses.onData,
        onOutcome: (outcome) => {
          const region = outcome.regions.at(-1);
          if (region !== undefined && outcome.ending !== 'refused') this.#prefixes.served(resolution.marks, region);
          uses.ends(outcome, context.waitUntil);
          admission.end(serving.charge(outcome));
        },
      },
    );
  }

  /** An answer that was kept, or what the one to come is for beside its app. Says in `headers` what it found. */
  async #cached(
    request: Request,
    context: Handling,
    { purpose, ask }: Serving,
    { tenant }: Admission,
    resolution: ServedResolution,
    headers: Record<string, string>,
  ): Promise<Response | AnswerUses> {
    if (purpose === 'tokens') return new AnswerUses([]);
    const beats = this.#parts.fleet.current(context.waitUntil) ?? [];
    const kept = cacheability(ask, tenant, resolution, request.headers, beats);
    const lookup = await this.#parts.answers.look(kept, ask, context.requestId);
    if (lookup.state !== 'off') headers['x-signpost-cache'] = lookup.state;
    return lookup.state === 'hit'
      ? lookup.response
      : new AnswerUses([lookup.state === 'miss' ? lookup.keep : undefined]);
  }

  async #explain(request: Request, context: Handling): Promise<Response> {
    const guest = await this.#guest(request, context);
    const ask = await readAsk(request, '/v1/route');
    context.account.laps.lap('parse');
    const asker = askerOf(guest, request, context);
    const routing = await this.#route(ask, asker, context);
    const { beats } = this.#known(context);
    return Response.json(
      explain(ask, asker, routing, { beats, classifier: this.#parts.classifier, guest, now: Date.now() }),
    );
  }

  /** The models of our nearest region and of strangers, as far as the key may use them, and `auto`. */
  async #models(request: Request, context: Handling): Promise<Response> {
    const { tenant, models } = await this.#guest(request, context);
    const { regions } = this.#parts.settings;
    const plan = planRegions(regions.filter(isOurs), undefined, {
      ...this.#known(context),
      app: context.account.place,
      load: undefined,
    });
    const response =
      plan.length === 0
        ? Response.json({ object: 'list', data: [] })
        : await this.#forward(
            {
              method: 'GET',
              path: '/v1/models',
              fields: undefined,
              delivery: 'whole',
              tenant,
              headers: passedOn(request, context),
              signal: request.signal,
            },
            plan.map(({ region }) => region),
            {},
            context.account,
          );
    if (!response.ok) return response;
    const list = (await response.json()) as ModelList;
    const auto: ModelCard = {
      id: 'auto',
      object: 'model',
      created: 0,
      owned_by: 'signpost',
      parent: null,
      root: 'auto',
    };
    const allowed = [...list.data, ...strangersModels(regions, list.data)].filter(({ id }) => allowsModel(models, id));
    return Response.json({ ...list, data: [auto, ...allowed] }, { headers: response.headers });
  }

  /** A region's heartbeat. @throws ApiError (401) where it isn't signed, (400) where it is none, or of no region of this edge's. */
  async #hear(request: Request): Promise<Response> {
    const { settings, hear } = this.#parts;
    const body = await readText(request);
    if (settings.signingKey !== undefined) {
      const signed = { region: HEARTBEAT_AUDIENCE, method: request.method, path: HEARTBEAT_PATH, body };
      await verifyRequest(settings.signingKey, request.headers.get('authorization'), signed, this.#seen);
    }
    const beat = parseBody(body, heartbeatSchema);
    const known = settings.regions.map(({ name }) => name);
    if (!known.includes(beat.region)) {
      throw new ApiError(
        'invalid_request_error',
        'unknown_region',
        `this edge has no region "${beat.region}"; the variable REGIONS has ${known.join(', ')}`,
      );
    }
    return Response.json({ heard: await hear(beat) });
  }

  async #status(context: RequestContext): Promise<Response> {
    const { classifier, rules, settings, fleet } = this.#parts;
    const beats = fleet.current(context.waitUntil) ?? [];
    const inForce = await rules.current(context.waitUntil);
    return Response.json({
      status: 'ok',
      classifier: classifier.status,
      rules: {
        source: inForce.source,
        version: inForce.version,
        number: inForce.number ?? null,
        problem: inForce.problem ?? null,
      },
      regions: settings.regions.map(({ name, kind = 'http', role = 'regular' }) => ({
        name,
        kind,
        role,
        ...this.#parts.health.state(name, Date.now()),
        replicas: beats
          .filter(({ beat }) => beat.region === name)
          .map(({ beat: { replica, running, waiting, draining }, heardAt }) => ({
            replica,
            heard_ms_ago: Date.now() - heardAt,
            running,
            waiting,
            draining,
          })),
      })),
      anonymous: settings.anonymous,
    });
  }

  async #takeFeedback(request: Request, context: Handling): Promise<Response> {
    const { tenant } = await this.#guest(request, context);
    return takeFeedback(request, tenant, this.#parts.feedback);
  }

  async #listFeedback(request: Request, context: Handling): Promise<Response> {
    const { tenant } = await this.#guest(request, context);
    return listFeedback(new URL(request.url), tenant, this.#parts.feedback);
  }

  async #caller(request: Request, { account }: Handling): Promise<Caller> {
    const caller = await identify(request.headers.get('authorization'), this.#parts.settings);
    // A managed key's object is asked later, and once, when it is known what the request may come to.
    if (caller.kind === 'managed') account.laps.lap('auth');
    else account.admits(caller.kind === 'configured' ? caller.tenant : undefined);
    return caller;
  }

  /** What is asked. What is wrong with it only those are told whose key is good. */
  async #read<T>(caller: Caller, { account }: Handling, asked: Promise<T>): Promise<T> {
    try {
      return await asked;
    } catch (error) {
      const { tenant, keyId } = await this.#parts.door.look(caller);
      account.admits(tenant, keyId);
      throw error;
    }
  }

  /** Who asks, where that counts as no use of a key. */
  async #guest(request: Request, { account }: Handling): Promise<Guest> {
    const { door, settings } = this.#parts;
    const guest = await door.look(await identify(request.headers.get('authorization'), settings));
    account.admits(guest.tenant, guest.keyId);
    return guest;
  }

  async #route(ask: Parameters<typeof routeAsk>[0], asker: Asker, context: Handling): Promise<Routing> {
    const { classifier, rules, settings } = this.#parts;
    const inForce = await rules.current(context.waitUntil);
    // Before anything else looks: who begins to read it waits for it.
    const catalogue = await this.#parts.catalogue.recent(context.waitUntil);
    const known = { ...this.#known(context), catalogue, prefixes: this.#prefixes };
    const { laps } = context.account;
    return routeAsk(ask, asker, {
      classifier,
      rules: inForce,
      regions: settings.regions,
      known,
      now: Date.now(),
      laps,
    });
  }

  /** What this isolate knows of the regions and their experts. */
  #known({ waitUntil }: RequestContext): Omit<PlanFacts, 'app' | 'load'> {
    const { fleet, catalogue, health, foreignLoads, waker } = this.#parts;
    const beats = fleet.current(waitUntil);
    return {
      beats: beats ?? [],
      isAsleep: (region) => waker.isAsleep(region, beats),
      catalogue: catalogue.current(waitUntil),
      networkMs: (region) => health.of(region).networkMs(Date.now()),
      foreignLoad: (region) => foreignLoads.of(region, waitUntil),
      sinceAnsweredMs: (region) => {
        const { answeredAt } = health.of(region);
        return answeredAt === undefined ? undefined : Date.now() - answeredAt;
      },
    };
  }

  /** Errors of forwarding keep the decision's headers: which rule sent a request into trouble is what one wants to know. */
  async #forward(
    request: UpstreamRequest,
    regions: Parameters<typeof forward>[1],
    headers: Record<string, string>,
    account: Account,
    watch: Pick<ForwardOptions, 'onData' | 'onOutcome'> = {},
  ): Promise<Response> {
    const { settings, log, health } = this.#parts;
    const ends = account.forwards();
    let answer: Answer;
    try {
      answer = await forward(request, regions, {
        ...settings,
        log,
        health,
        onData: watch.onData,
        onOutcome: (outcome) => {
          watch.onOutcome?.(outcome);
          ends(outcome);
        },
      });
    } catch (error) {
      if (error instanceof ApiError) return error.toResponse(headers);
      throw error;
    }
    const { response, region } = answer;
    withHeaders(response, headers);
    if (region !== undefined) response.headers.set('x-signpost-region', region);
    return response;
  }
}

function withHeaders(response: Response, headers: Readonly<Record<string, string>>): Response {
  for (const [name, value] of Object.entries(headers)) response.headers.set(name, value);
  return response;
}

function askerOf({ tenant }: Guest, { headers }: Request, { account }: Handling): Asker {
  return { tenant, headers, place: account.place };
}

/** Headers of the app that go on to the region: the request's identity, trace and deadline, nothing of the app's own. */
function passedOn(request: Request, { requestId, account }: Handling): Record<string, string> {
  const timeout = request.headers.get('x-signpost-timeout-ms');
  return {
    'x-request-id': requestId,
    ...account.trace.headers,
    ...(timeout === null ? {} : { 'x-signpost-timeout-ms': timeout }),
  };
}
