/**
 * A region without a socket: the engine, and the app in front of it. Whoever takes requests in (an HTTP server, AWS Lambda) hands them to `fetch`.
 */
import { randomUUID } from 'node:crypto';
import { type Digest, type Heartbeat, hashKey, Problem, type RegionKeys } from '@signpost/contracts';
import { Tokenizer } from '@signpost/engine';
import { openStore, readTrustedKeys } from '@signpost/store';
import { type Logger, pino } from 'pino';
import manifest from '../package.json' with { type: 'json' };
import { openBase } from './base/open-base.ts';
import { CatalogueWatch } from './experts/catalogue-watch.ts';
import { SeenRevision } from './experts/seen-revision.ts';
import { StandingOrders, type Upkeep } from './experts/standing.ts';
import { ExpertTokenizers } from './experts/tokenizers.ts';
import { edgeUrls, type RegionOptions, type RegionSettings } from './options.ts';
import { EngineClient } from './runner/engine-client.ts';
import type { EngineFacts } from './runner/protocol.ts';
import type { EngineObserver } from './runner/request-watch.ts';
import { createApp } from './server/app.ts';
import { DrainSwitch } from './server/drain.ts';
import { Heartbeats } from './server/heartbeat.ts';
import { Metrics } from './server/metrics.ts';
import { modelNames } from './server/models.ts';
import { startTracing } from './server/tracing.ts';
import { settledWithin } from './settled-within.ts';

export interface Backend {
  readonly facts: EngineFacts;
  /** False once the engine's thread is gone: only a new process brings it back. */
  readonly isAlive: boolean;
  /** @param arrivedAt milliseconds since the epoch: before now where the request had to wait for this region to start. */
  fetch(request: Request, arrivedAt: number): Response | Promise<Response>;
  heartbeat(): Promise<Heartbeat>;
  /** Looks whether what to have at hand has changed; for upkeep `on demand`. */
  look(): void;
  /** Brings to its end what should not be cut in two, at most a few seconds: for a process that may be frozen from now on. */
  rest(): Promise<void>;
  /** Refuses new requests from now on. */
  drain(): void;
  /** Fails what is left. @param answersLeave waits until what was answered is on its way. */
  close(answersLeave?: () => Promise<void>): Promise<void>;
}

export interface BackendParts {
  /** Verify the edge's requests; undefined where only this machine reaches the server. */
  readonly keys: RegionKeys | undefined;
  readonly log: Logger;
  readonly upkeep: Upkeep;
}

const REST_LIMIT_MS = 1_000;

/** Loads the base. @throws Problem when it can't be loaded, or a setting makes no sense. */
export async function openBackend(settings: RegionSettings, { keys, log, upkeep }: BackendParts): Promise<Backend> {
  const edges = edgeUrls(settings);
  const trust = await readTrustedKeys(settings.catalogueKey ?? []);
  const store = openStore(settings.store);
  const catalogue = new CatalogueWatch(store, {
    onProblem: (problem) => {
      metrics.onCatalogueProblem();
      log.error({ problem }, 'the catalogue is not usable; the last good one stays, if there was one');
    },
    trust,
    // Without a signature anybody could write any revision.
    seen:
      settings.diskCache === undefined || trust.length === 0
        ? undefined
        : new SeenRevision(settings.diskCache, store.url),
  });
  const base = await openBase(settings, { store, catalogue, log });
  const metrics = new Metrics({
    region: settings.region,
    blockTokens: settings.blockTokens,
    stats: () => engine.stats(),
    modelNames: (digest) => (catalogue.current === undefined ? [] : modelNames(catalogue.current, digest)),
    catalogueRevision: () => catalogue.current?.revision,
  });
  const tracing = await startTracing({ region: settings.region, version: manifest.version });
  const starting = startEngine(
    { ...settings, base: base.dir },
    { baseDigest: base.digest, observer: metrics, log, onResidency: () => heartbeats.changed() },
  );
  // Awaited below; until then its failure is nobody's.
  starting.catch(() => undefined);
  // Beside the engine's thread: a large vocabulary takes a while to be read.
  const tokenizer = await Tokenizer.load(base.dir).catch(async (error: unknown) => {
    await starting.then(
      (started) => started.close(),
      () => undefined,
    );
    throw error;
  });
  const engine = await starting;
  try {
    await base.check(engine.facts.base);
  } catch (error) {
    await engine.close();
    throw error;
  }
  const draining = new DrainSwitch(() => heartbeats.changed());
  const heartbeats = new Heartbeats({
    region: settings.region,
    engine,
    isDraining: () => draining.isOn,
    edges,
    signingKey: keys?.signing,
    onReach: (edge, problem) => {
      if (problem === undefined) log.info({ edge }, 'the edge takes heartbeats again');
      else log.warn({ edge, problem }, "the edge can't be told how this region is; it is tried on");
    },
  });
  const standing = new StandingOrders({
    catalogue,
    base: engine.facts.base,
    slots: settings.slots,
    keep: (orders) => engine.keep(orders),
    hint: (versions) => engine.hint(versions),
    onProblem: (problem) => log.error({ problem }, 'not every expert can be kept at hand'),
    pins: settings.pin ?? [],
    upkeep,
  });
  const app = createApp({
    engine,
    tokenizers: new ExpertTokenizers(store, { tokenizer, vocabSize: engine.facts.vocabSize }),
    catalogue,
    defaultMaxTokens: settings.defaultMaxTokens,
    region: settings.region,
    acceptedKeys: keys?.accepted,
    heartbeats,
    metrics,
    metricsKey: await metricsKey(settings),
    adminKey: settings.adminKey === undefined ? undefined : await hashKey(settings.adminKey),
    standing,
    tracing,
    log,
    logPrompts: settings.logPrompts,
    draining,
  });
  return {
    facts: engine.facts,
    get isAlive() {
      return engine.isAlive;
    },
    fetch: (request, arrivedAt) => app.fetch(request, { arrivedAt }),
    heartbeat: () => heartbeats.current(),
    look: () => void standing.look(),
    async rest() {
      await Promise.all([settledWithin(catalogue.settled(), REST_LIMIT_MS), tracing.flush()]);
    },
    drain() {
      draining.stop();
      standing.close();
    },
    async close(answersLeave = async () => undefined) {
      await heartbeats.close();
      // Fails what is left, so that it gets an error rather than silence.
      await engine.close();
      await answersLeave();
      await tracing.close();
    },
  };
}

export function createLog({ logLevel, region, onLog }: RegionSettings): Logger {
  const options = { level: logLevel, base: { region } };
  return onLog === undefined ? pino(options) : pino(options, { write: onLog });
}

/** The hash of the key that metrics are read with; of one that nobody knows where others reach the server and none was set. */
async function metricsKey({ metricsKey: key, openMetrics, secret }: RegionOptions): Promise<Digest | undefined> {
  if (openMetrics) return undefined;
  if (key !== undefined) return hashKey(key);
  return secret === undefined ? undefined : hashKey(randomUUID());
}

/** What a user can mend is a Problem on the other side of the thread's border, too. */
async function startEngine(
  settings: RegionSettings,
  {
    baseDigest,
    observer,
    log,
    onResidency,
  }: {
    readonly baseDigest: Promise<Digest>;
    readonly observer: EngineObserver;
    readonly log: Logger;
    readonly onResidency: () => void;
  },
): Promise<EngineClient> {
  const { base, store, device, weights, slots, kvTokens } = settings;
  const { maxStepTokens, maxSequences, maxStepExperts, decodeSteps, blockTokens } = settings;
  const { maxRequests, maxQueuedTokens, requestTimeoutMs: timeoutMs, hostCacheBytes } = settings;
  const diskCache =
    settings.diskCache === undefined ? undefined : { dir: settings.diskCache, bytes: settings.diskCacheBytes };
  try {
    return await EngineClient.start(
      {
        hostCacheBytes,
        diskCache,
        base,
        store,
        device,
        gpu: {
          software: settings.allowSoftwareGpu ? 'allowed' : 'refused',
          memoryBytes: settings.gpuMemoryBytes,
          tuningFile: settings.gpuTuningFile,
          slotBytes: settings.slotBytes,
        },
        weights,
        slots,
        kvTokens,
        maxStepTokens,
        maxSequences,
        maxStepExperts,
        decodeSteps,
        blockTokens,
      },
      {
        baseDigest,
        maxRequests,
        maxQueuedTokens,
        timeoutMs,
        observer,
        onLoading: (bytes, totalBytes) =>
          log.info({ bytes, totalBytes, percent: Math.round((100 * bytes) / totalBytes), weights }, 'loading the base'),
        onCompiling: (compiled, total) => log.info({ compiled, total }, 'compiling kernels'),
        onResidency,
        onProblem: (problem) => log.error({ problem }, 'something went wrong that no request was failed for'),
        onDeath: (error) => log.fatal({ err: error }, 'the engine thread is gone; restart this region'),
      },
    );
  } catch (cause) {
    if (cause instanceof Error) throw new Problem(cause.message, { cause });
    throw cause;
  }
}
