/**
 * What is asked of models: admit → classify → rules → plan → forward, and the same without the last for `/v1/route`.
 */
import { ApiError, type ModelCard, type ModelList, PREFETCH_HEADER } from '@signpost/contracts';
import type { AnswerCache } from '../answers/cache.ts';
import { cacheability } from '../answers/cacheable.ts';
import { AnswerUses } from '../answers/uses.ts';
import { type Ask, type GenerationPath, type RuleChanges, readAsk, upstreamFields } from '../ask/ask.ts';
import { readTokensAsk, type TokensPath, tokensFields } from '../ask/tokens.ts';
import type { Caller } from '../auth/keys.ts';
import { strangersModels } from '../backends/models.ts';
import type { Waker } from '../backends/waker.ts';
import type { Classifier } from '../classify/classifier.ts';
import type { Knowledge, Known } from '../fleet/knowledge.ts';
import { type Candidates, type ForwardOptions, forward, only } from '../forward/forward.ts';
import type { Outcome } from '../forward/outcome.ts';
import type { FleetHealth } from '../forward/region-health.ts';
import type { UpstreamRequest } from '../forward/upstream.ts';
import { allowsModel, refusalOfModel } from '../keys/allowed-models.ts';
import type { Admission, Guest } from '../keys/door.ts';
import { boundBy, chargeFor, reserveFor } from '../keys/tokens.ts';
import { planRegions, worthWaking } from '../plan/plan.ts';
import { isOurs } from '../plan/regions.ts';
import { cachedTokens } from '../plan/terms.ts';
import { explain } from '../route/explain.ts';
import { routingHeaders } from '../route/headers.ts';
import { type Asker, type Routing, routeAsk, type ServedResolution } from '../route/route.ts';
import type { RulesStore } from '../rules/store.ts';
import type { Settings } from '../settings/settings.ts';
import type { ShadowCaster } from '../shadow/caster.ts';
import { candidatesFor } from './candidates.ts';
import { askerOf, type Handling, passedOn, withHeaders } from './handling.ts';
import type { Reception } from './reception.ts';

export interface ServiceParts {
  readonly settings: Settings;
  readonly rules: RulesStore;
  readonly classifier: Classifier;
  readonly reception: Reception;
  readonly knowledge: Knowledge;
  readonly health: FleetHealth;
  readonly waker: Waker;
  readonly answers: AnswerCache;
  readonly shadows: ShadowCaster;
  readonly log: (event: string, fields: Record<string, unknown>) => void;
}

/** A request that goes to a region. */
interface Serving {
  readonly ask: Ask;
  readonly path: string;
  readonly delivery: UpstreamRequest['delivery'];
  /** What the key's limits change in the request beside the rules: what is kept of its answer is kept by that, too. */
  readonly bound: (changes: RuleChanges, guest: Guest) => RuleChanges;
  /** What the region gets. */
  readonly fields: (served: ServedResolution) => Record<string, unknown>;
  /** Tokens that it came to. */
  readonly charge: (outcome: Outcome) => number;
  readonly purpose: 'answer' | 'tokens';
}

export class Service {
  readonly #parts: ServiceParts;

  constructor(parts: ServiceParts) {
    this.#parts = parts;
  }

  async generate(handling: Handling, path: GenerationPath): Promise<Response> {
    const { caller, asked: ask } = await this.#parts.reception.hear(handling, (request) => readAsk(request, path));
    handling.account.asks(ask);
    const reserve = reserveFor(ask);
    return this.#serve(handling, caller, reserve.tokens, {
      ask,
      path,
      delivery: ask.delivery,
      bound: (changes, guest) => boundBy(changes, guest, reserve),
      fields: ({ chosen, changes }) => upstreamFields(ask, chosen.name, changes),
      charge: (outcome) => chargeFor(outcome, ask.promptTokens),
      purpose: 'answer',
    });
  }

  /** `/tokenize` and `/detokenize`. */
  async tokens(handling: Handling, path: TokensPath): Promise<Response> {
    const { caller, asked: ask } = await this.#parts.reception.hear(handling, (request) =>
      readTokensAsk(request, path),
    );
    handling.account.laps.lap('parse');
    return this.#serve(handling, caller, 0, {
      ask,
      path,
      delivery: 'whole',
      bound: (changes) => changes,
      fields: ({ model, changes }) => tokensFields(ask, model, changes),
      charge: () => 0,
      purpose: 'tokens',
    });
  }

  /** What would be done with a request, and why. */
  async explain(handling: Handling): Promise<Response> {
    const guest = await this.#parts.reception.guest(handling);
    const ask = await readAsk(handling.request, '/v1/route');
    handling.account.laps.lap('parse');
    const asker = askerOf(guest, handling);
    const known = await this.#parts.knowledge.recent(handling.waitUntil);
    const routing = await this.#route(ask, asker, known, handling);
    const { classifier } = this.#parts;
    return Response.json(explain(ask, asker, routing, { beats: known.beats, classifier, guest, now: Date.now() }));
  }

  /** The models of our nearest region and of strangers, as far as the key may use them, and `auto`. */
  async models(handling: Handling): Promise<Response> {
    const { tenant, models } = await this.#parts.reception.guest(handling);
    const { regions } = this.#parts.settings;
    const plan = planRegions(regions.filter(isOurs), undefined, {
      ...(await this.#parts.knowledge.recent(handling.waitUntil)),
      app: handling.account.place,
      load: undefined,
    });
    const request: UpstreamRequest = {
      method: 'GET',
      path: '/v1/models',
      fields: undefined,
      delivery: 'whole',
      tenant,
      headers: passedOn(handling),
      signal: handling.request.signal,
    };
    const planned = only(plan.map(({ region }) => region));
    const response =
      plan.length === 0
        ? Response.json({ object: 'list', data: [] })
        : await this.#forward(request, planned, {}, handling);
    if (!response.ok) return response;
    const list = (await response.json()) as ModelList;
    const allowed = [...list.data, ...strangersModels(regions, list.data)].filter(({ id }) => allowsModel(models, id));
    return Response.json({ ...list, data: [AUTO, ...allowed] }, { headers: response.headers });
  }

  /** Lets a request in, decides it, and forwards it: what it holds of its key's limits it gives back at its end, whatever that is. */
  async #serve(handling: Handling, caller: Caller, tokens: number, serving: Serving): Promise<Response> {
    const admission = await this.#parts.reception.admit(caller, tokens, handling);
    try {
      return await this.#decide(handling, serving, admission);
    } catch (error) {
      // Where an answer was begun, its outcome has been told before.
      admission.end(0);
      throw error;
    }
  }

  async #decide(handling: Handling, serving: Serving, admission: Admission): Promise<Response> {
    const { request, account, waitUntil } = handling;
    const known = await this.#parts.knowledge.recent(waitUntil);
    const routing = await this.#route(serving.ask, askerOf(admission, handling), known, handling);
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
    for (const region of worthWaking(resolution.plan)) this.#parts.waker.wake(region, waitUntil);
    const { rule } = routing.decision;
    const { purpose, delivery } = serving;
    const { load } = resolution;
    const uses = await this.#cached(handling, serving, admission, { ...resolution, rule }, known, headers);
    if (uses instanceof Response) {
      admission.end(0);
      return withHeaders(uses, headers);
    }
    const ahead = purpose === 'tokens' ? [] : resolution.ahead.filter((model) => allowsModel(admission.models, model));
    return this.#forward(
      {
        method: 'POST',
        path: serving.path,
        fields: serving.fields(resolution),
        ...(purpose === 'tokens' ? {} : { byName: resolution.model }),
        delivery,
        promptTokens: (region) => load.promptTokens - cachedTokens(load, region),
        tenant: admission.tenant,
        headers: {
          ...passedOn(handling),
          ...(ahead.length === 0 ? {} : { [PREFETCH_HEADER]: ahead.join(',') }),
        },
        signal: request.signal,
      },
      candidatesFor(resolution, {
        ...this.#parts,
        ...this.#parts.settings.timeouts,
        delivery,
        // Token ids are those of our tokenizer.
        isFit: (region) => purpose === 'answer' || isOurs(region),
        waitUntil,
      }),
      headers,
      handling,
      {
        onData: uses.onData,
        onOutcome: (outcome) => {
          const region = outcome.regions.at(-1);
          if (region !== undefined && outcome.ending !== 'refused') known.prefixes.served(resolution.marks, region);
          uses.ends(outcome, waitUntil);
          admission.end(serving.charge(outcome));
        },
      },
    );
  }

  /** An answer that was kept, or what the one to come is for beside its app. Says in `headers` what it found. */
  async #cached(
    { request, requestId, account }: Handling,
    { purpose, ask, fields }: Serving,
    { tenant }: Admission,
    { rule, ...resolution }: ServedResolution & { readonly rule: string },
    { beats }: Known,
    headers: Record<string, string>,
  ): Promise<Response | AnswerUses> {
    if (purpose === 'tokens') return new AnswerUses([]);
    const kept = cacheability(ask, tenant, resolution, request.headers, beats);
    const lookup = await this.#parts.answers.look(kept, ask, requestId);
    if (lookup.state !== 'off') {
      headers['x-signpost-cache'] = lookup.state;
      account.caches(lookup);
    }
    if (lookup.state === 'hit') return lookup.response;
    const shadow = this.#parts.shadows.use({
      id: requestId,
      tenant,
      ask,
      rule,
      resolution,
      fields: () => fields(resolution),
    });
    return new AnswerUses([lookup.state === 'miss' ? lookup.keep : undefined, shadow]);
  }

  async #route(
    ask: Ask,
    asker: Asker,
    known: Known,
    { account, waitUntil }: Pick<Handling, 'account' | 'waitUntil'>,
  ): Promise<Routing> {
    const { classifier, rules, settings } = this.#parts;
    return routeAsk(ask, asker, {
      classifier,
      rules: await rules.current(waitUntil),
      regions: settings.regions,
      known,
      now: Date.now(),
      laps: account.laps,
    });
  }

  /** Errors of forwarding keep the decision's headers: which rule sent a request into trouble is what one wants to know. */
  async #forward(
    request: UpstreamRequest,
    candidates: Candidates,
    headers: Record<string, string>,
    { account, waitUntil }: Handling,
    watch: Pick<ForwardOptions, 'onData' | 'onOutcome'> = {},
  ): Promise<Response> {
    const { settings, log, health, knowledge } = this.#parts;
    const passing = account.forwards();
    try {
      const answer = await forward(request, candidates, {
        ...settings,
        log,
        health,
        vigil: (region) => knowledge.vigil(region, waitUntil),
        onPass: passing.onPass,
        onData: watch.onData,
        onOutcome: (outcome) => {
          watch.onOutcome?.(outcome);
          passing.onOutcome(outcome);
        },
      });
      const { region, status, body } = answer;
      const own = region === undefined ? headers : { ...headers, 'x-signpost-region': region };
      return new Response(body, { status, headers: { ...answer.headers, ...own } });
    } catch (error) {
      if (error instanceof ApiError) return error.toResponse(headers);
      throw error;
    }
  }
}

const AUTO: ModelCard = {
  id: 'auto',
  object: 'model',
  created: 0,
  owned_by: 'signpost',
  parent: null,
  root: 'auto',
};
