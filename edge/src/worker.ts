/**
 * The Worker: binds the gateway to Cloudflare. One isolate keeps one gateway, with its rules and classifier, over many requests.
 */
import { HEARTBEAT_SILENCE_MS, importTrustedKey } from '@signpost/contracts';
import type { Decisions } from './accounts/decisions-object.ts';
import { openAccounts } from './accounts/open.ts';
import { Admin } from './admin/admin.ts';
import { answerError } from './answer-error.ts';
import { AnswerCache } from './answers/cache.ts';
import { ForeignLoads } from './backends/foreign-load.ts';
import { Waker } from './backends/waker.ts';
import { bundledRouter, bundledRules, routerModules } from './bundle.ts';
import { Cached } from './cached.ts';
import { readEdgeCatalogue } from './catalogue/source.ts';
import { Classifier } from './classify/classifier.ts';
import { routerLibrary } from './classify/router.ts';
import type { ConfigLog } from './config/config-object.ts';
import { readConfig } from './config/kv.ts';
import { readRecorded } from './config/recorded.ts';
import { configKeeper } from './config/stub.ts';
import type { Fleet } from './fleet/fleet-object.ts';
import { Knowledge } from './fleet/knowledge.ts';
import { FleetHealth } from './forward/region-health.ts';
import { Gateway } from './gateway.ts';
import { Door } from './keys/door.ts';
import type { KeyIndex } from './keys/index-object.ts';
import type { ApiKey } from './keys/key-object.ts';
import { KeyRegistry } from './keys/registry.ts';
import { keyIndex, keyObject } from './keys/stubs.ts';
import { RULES_MAX_AGE_MS, RulesStore } from './rules/store.ts';
import { readSettings, type Variables } from './settings/settings.ts';
import { ShadowCaster } from './shadow/caster.ts';
import type { Comparison } from './shadow/compare.ts';
import type { ShadowJob } from './shadow/job.ts';
import { keepComparison, readComparisons } from './shadow/keep.ts';
import { ShadowRunner } from './shadow/runner.ts';

interface Env extends Variables {
  /** The console's page. */
  readonly ASSETS: Fetcher;
  /** Holds `routing.yaml`. */
  readonly CONFIG: KVNamespace;
  /** May hold a router model. */
  readonly ARTIFACTS: R2Bucket;
  /** What regions say of themselves. */
  readonly FLEET: DurableObjectNamespace<Fleet>;
  /** What happened: records, feedback, counts. */
  readonly DECISIONS: DurableObjectNamespace<Decisions>;
  /** Takes a data point of each record. */
  readonly ANALYTICS?: AnalyticsEngineDataset;
  /** One for each managed API key. */
  readonly KEYS: DurableObjectNamespace<ApiKey>;
  readonly KEY_INDEX: DurableObjectNamespace<KeyIndex>;
  /** Takes answers that are to be compared with another model's. */
  readonly SHADOWS: Queue<ShadowJob>;
  /** Versions of what CONFIG holds. */
  readonly CONFIG_LOG: DurableObjectNamespace<ConfigLog>;
}

export { Decisions } from './accounts/decisions-object.ts';
export { ConfigLog } from './config/config-object.ts';
export { Fleet } from './fleet/fleet-object.ts';
export { KeyIndex } from './keys/index-object.ts';
export { ApiKey } from './keys/key-object.ts';

const FLEET_MAX_AGE_MS = 1_000;
const CATALOGUE_MAX_AGE_MS = 10_000;

interface Edge {
  readonly gateway: Gateway;
  readonly shadows: ShadowRunner;
}

let edge: Edge | undefined;

export default {
  async fetch(request, env, context): Promise<Response> {
    const requestId = readRequestId(request.headers);
    const response = await answer(request, env, context, requestId);
    response.headers.set('x-request-id', requestId);
    return response;
  },

  /** Answers to be compared with another model's. */
  async queue(batch, env, context): Promise<void> {
    edge ??= createEdge(env);
    const { shadows } = edge;
    const waitUntil = (promise: Promise<unknown>) => context.waitUntil(promise);
    await Promise.all(
      batch.messages.map(async (message) => {
        try {
          const result = await shadows.run(message.body, message.attempts, waitUntil);
          if (result.kind === 'done') message.ack();
          else message.retry({ delaySeconds: result.seconds });
        } catch (error) {
          log('shadow_not_kept', { reason: error instanceof Error ? error.message : String(error) });
          message.retry();
        }
      }),
    );
  },
} satisfies ExportedHandler<Env, unknown>;

async function answer(request: Request, env: Env, context: ExecutionContext, requestId: string): Promise<Response> {
  try {
    edge ??= createEdge(env);
    return await edge.gateway.handle(request, {
      cf: request.cf,
      requestId,
      waitUntil: (promise) => context.waitUntil(promise),
    });
  } catch (error) {
    return answerError(error, request, requestId, log).response;
  }
}

/** @throws ApiError (`misconfigured`) */
function createEdge(env: Env): Edge {
  const settings = readSettings(env);
  const now = () => Date.now();
  // Made for each use: a stub is good for the request that made it.
  const object = () => env.FLEET.getByName('fleet');
  const health = new FleetHealth();
  const rules = new RulesStore({
    bundled: bundledRules,
    regions: settings.regions.map(({ name }) => name),
    read: () => readConfig(env.CONFIG, RULES_MAX_AGE_MS / 1_000),
    now,
    log,
  });
  const classifier = new Classifier({
    ...routerLibrary({ store: env.ARTIFACTS, bundled: bundledRouter, wasm: routerModules }),
    now,
    log,
  });
  const decisions = () => env.DECISIONS.getByName('decisions');
  const waker = new Waker({ ...settings, mayWake: async (region) => object().mayWake(region), now, log });
  const knowledge = new Knowledge({
    health,
    waker,
    foreignLoads: new ForeignLoads({ ...settings, now, log }),
    // Copies: what comes over RPC is to be disposed of.
    fleet: new Cached({
      name: 'fleet',
      maxAgeMs: FLEET_MAX_AGE_MS,
      forgetAfterMs: HEARTBEAT_SILENCE_MS,
      read: async () => structuredClone([...(await object().current())]),
      now,
      log,
    }),
    catalogue: new Cached({
      name: 'catalogue',
      maxAgeMs: CATALOGUE_MAX_AGE_MS,
      read: async () =>
        readEdgeCatalogue(env.ARTIFACTS, await Promise.all(settings.catalogueKeys.map(importTrustedKey))),
      now,
      log,
    }),
  });
  const { counts, ...accounts } = openAccounts({
    settings,
    rules,
    classifier,
    health,
    now,
    log,
    object: decisions,
    analytics: env.ANALYTICS,
    writeLine: (json) => console.log(json),
  });
  const gateway = new Gateway({
    settings,
    log,
    rules,
    classifier,
    health,
    waker,
    knowledge,
    ...accounts,
    door: new Door({
      key: (hash) => keyObject(env.KEYS, hash),
      whenUnreachable: settings.whenKeyUnreachable,
      now,
      log,
    }),
    admin: new Admin({
      settings,
      keys: new KeyRegistry({
        index: keyIndex(env.KEY_INDEX),
        key: (hash, near) => keyObject(env.KEYS, hash, near),
        now,
      }),
      rules,
      classifier,
      knowledge,
      health,
      feedback: accounts.feedback,
      decisions: async (limit, before) => structuredClone(await decisions().recent(limit, before)),
      ruleHits: async () => structuredClone([...(await decisions().ruleHits())]),
      bundledRules,
      config: configKeeper(env.CONFIG_LOG),
      recorded: (limit) => readRecorded((page, before) => decisions().recent(page, before), limit),
      comparisons: (limit) => readComparisons((page, before) => decisions().comparisons(page, before), limit),
      now,
      log,
    }),
    answers: new AnswerCache({ open: () => caches.open('answers'), now, log }),
    shadows: new ShadowCaster({ send: (job) => env.SHADOWS.send(job), counts, dice: Math.random, now, log }),
    hear: async (beat) => object().hear(beat),
    consoleFiles: env.ASSETS,
  });
  const keep = (comparison: Comparison) => keepComparison(decisions(), comparison);
  return { gateway, shadows: new ShadowRunner({ settings, knowledge, health, keep, log }) };
}

function log(event: string, fields: Record<string, unknown>): void {
  console.log(JSON.stringify({ event, ...fields }));
}

/** The app's own request id where it is one, else a new one. */
function readRequestId(headers: Headers): string {
  const given = headers.get('x-request-id');
  return given !== null && /^[\w.:-]{1,128}$/.test(given) ? given : crypto.randomUUID();
}
