/**
 * The regional backend: one base, experts paged in from a store, an OpenAI-compatible API.
 */
import { randomUUID } from 'node:crypto';
import { type Digest, type Heartbeat, hashKey, Problem, signingKey } from '@signpost/contracts';
import { type DeviceName, Tokenizer, type WeightFormat } from '@signpost/engine';
import { openStore, readTrustedKeys } from '@signpost/store';
import { type Logger, pino } from 'pino';
import manifest from '../package.json' with { type: 'json' };
import { CatalogueWatch } from './experts/catalogue-watch.ts';
import { SeenRevision } from './experts/seen-revision.ts';
import { StandingOrders } from './experts/standing.ts';
import { ExpertTokenizers } from './experts/tokenizers.ts';
import { EngineClient } from './runner/engine-client.ts';
import type { EngineObserver } from './runner/request-watch.ts';
import { createApp } from './server/app.ts';
import { DrainSwitch } from './server/drain.ts';
import { Heartbeats } from './server/heartbeat.ts';
import { HttpServer } from './server/http-server.ts';
import { Metrics } from './server/metrics.ts';
import { modelNames } from './server/models.ts';
import { answerStarting } from './server/starting.ts';
import { startTracing } from './server/tracing.ts';

export interface BackendOptions {
  /** Base checkpoint folder. */
  readonly base: string;
  /** Store URL of the experts. */
  readonly store: string;
  /** This region's name, as the edge knows it. */
  readonly region: string;
  readonly host?: string;
  /** 0 for any free one. */
  readonly port?: number;
  /** Shared with the edge, at least 32 bytes; without it the server listens on this machine only. */
  readonly secret?: string;
  /** What metrics are read with; needed where there is a `secret`, else everybody on this machine may read them. */
  readonly metricsKey?: string;
  /** What the admin API is used with; without it that is off. */
  readonly adminKey?: string;
  /** Files of public keys; with one or more, only a catalogue that one of them signed is taken. */
  readonly catalogueKey?: readonly string[];
  readonly device?: DeviceName;
  /** How the base's weights are held in memory: as the checkpoint stores them, in 8 bits, or in 4. */
  readonly weights?: WeightFormat;
  /** Expert slots. */
  readonly slots?: number;
  /** Bytes of delta files kept in memory. */
  readonly hostCacheBytes?: number;
  /** Folder where delta files are kept beyond a restart; nowhere if left out. */
  readonly diskCache?: string;
  /** Bytes of delta files kept there. */
  readonly diskCacheBytes?: number;
  /** Experts kept in slots: `NAME`, `NAME@CHANNEL`, `NAME@DIGEST`. */
  readonly pin?: readonly string[];
  /** URLs of the edges that are told how this region is. */
  readonly edge?: readonly string[];
  /** Tokens that the KV cache holds. */
  readonly kvTokens?: number;
  /** Most rows of one step. */
  readonly maxStepTokens?: number;
  /** Most sequences that run at once. */
  readonly maxSequences?: number;
  /** Most experts that one step reads. */
  readonly maxStepExperts?: number;
  /** Tokens of a block of the KV cache. */
  readonly blockTokens?: number;
  /** Requests in flight beyond which new ones are refused. */
  readonly maxRequests?: number;
  /** Prompt tokens in wait for their first step beyond which new requests are refused. */
  readonly maxQueuedTokens?: number;
  /** What a request may take, from its arrival to its last token. */
  readonly requestTimeoutMs?: number;
  /** Most tokens of a chat answer whose request doesn't say. */
  readonly defaultMaxTokens?: number;
  readonly logLevel?: string;
  /** Whether the log tells what was asked, too. */
  readonly logPrompts?: boolean;
  /** Takes the log, a JSON line at a time; standard output when left out. */
  readonly onLog?: (line: string) => void;
}

type Defaults = Required<
  Omit<
    BackendOptions,
    | 'base'
    | 'store'
    | 'region'
    | 'secret'
    | 'metricsKey'
    | 'adminKey'
    | 'catalogueKey'
    | 'diskCache'
    | 'pin'
    | 'edge'
    | 'onLog'
  >
>;

export const BACKEND_DEFAULTS: Defaults = {
  host: '127.0.0.1',
  port: 8000,
  device: 'cpu',
  weights: 'bf16',
  slots: 8,
  hostCacheBytes: 2 ** 30,
  diskCacheBytes: 16 * 2 ** 30,
  kvTokens: 16_384,
  maxStepTokens: 256,
  maxSequences: 64,
  maxStepExperts: 8,
  blockTokens: 16,
  maxRequests: 256,
  maxQueuedTokens: 65_536,
  requestTimeoutMs: 600_000,
  defaultMaxTokens: 1_024,
  logLevel: 'info',
  logPrompts: false,
};

export interface BackendHandle {
  /** Without a slash at the end: `http://127.0.0.1:8000`. */
  readonly url: string;
  heartbeat(): Promise<Heartbeat>;
  /** Refuses new requests, lets those in flight end for at most `limitMs` (0 if left out), fails the rest, then stops. */
  close(limitMs?: number): Promise<void>;
}

const LOOPBACK = new Set(['127.0.0.1', '::1', 'localhost']);

/**
 * Loads the base and serves it. The address is taken before the base is loaded, and answers health checks meanwhile.
 *
 * @throws Problem when the base can't be loaded, the port is taken, a size makes no sense, or the server would be open to others without a secret.
 */
export async function startBackend(options: BackendOptions): Promise<BackendHandle> {
  const settings = { ...BACKEND_DEFAULTS, ...options };
  checkSizes(settings);
  const key = edgeKey(settings);
  const trust = await readTrustedKeys(settings.catalogueKey ?? []);
  const log = createLog(settings);
  const started = performance.now();
  const http = new HttpServer(answerStarting);
  const url = await http.listen(settings.host, settings.port);
  try {
    const store = openStore(settings.store);
    const catalogue = new CatalogueWatch(
      store,
      (problem) => {
        metrics.onCatalogueProblem();
        log.error({ problem }, 'the catalogue is not usable; the last good one stays, if there was one');
      },
      trust,
      // Without a signature anybody could write any revision.
      settings.diskCache === undefined || trust.length === 0
        ? undefined
        : new SeenRevision(settings.diskCache, store.url),
    );
    const tokenizer = await Tokenizer.load(settings.base);
    const metrics = new Metrics({
      region: settings.region,
      blockTokens: settings.blockTokens,
      stats: () => engine.stats(),
      modelNames: (digest) => (catalogue.current === undefined ? [] : modelNames(catalogue.current, digest)),
    });
    const tracing = await startTracing({ region: settings.region, version: manifest.version });
    const engine = await startEngine(settings, { observer: metrics, log, onResidency: () => heartbeats.changed() });
    const draining = new DrainSwitch(() => heartbeats.changed());
    const heartbeats = new Heartbeats({
      region: settings.region,
      engine,
      isDraining: () => draining.isOn,
      edges: edgeUrls(settings),
      signingKey: key,
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
    });
    const app = createApp({
      engine,
      tokenizers: new ExpertTokenizers(store, { tokenizer, vocabSize: engine.facts.vocabSize }),
      catalogue,
      defaultMaxTokens: settings.defaultMaxTokens,
      region: settings.region,
      signingKey: key,
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
    http.serve((request) => app.fetch(request));
    const { base, weightBytes, loadMs } = engine.facts;
    const startMs = Math.round(performance.now() - started);
    log.info({ url, base, weights: settings.weights, weightBytes, loadMs, startMs }, 'ready');
    async function stop(limitMs: number): Promise<void> {
      draining.stop();
      log.info({ limitMs }, 'draining');
      standing.close();
      await http.idle(limitMs);
      await heartbeats.close();
      // Fails what is left, so that it gets an error rather than silence.
      await engine.close();
      await http.close();
      await tracing.close();
      log.info('stopped');
    }
    let stopping: Promise<void> | undefined;
    return {
      url,
      heartbeat: () => heartbeats.current(),
      close(limitMs = 0) {
        stopping ??= stop(limitMs);
        return stopping;
      },
    };
  } catch (error) {
    await http.close();
    throw error;
  }
}

/** @throws Problem for a URL that is none, or one that would be told over the network without a signature. */
function edgeUrls({ edge = [], secret }: BackendOptions): string[] {
  return edge.map((text) => {
    const url = URL.canParse(text) ? new URL(text) : undefined;
    if (url === undefined || !/^https?:$/.test(url.protocol)) throw new Problem(`--edge "${text}" is no http(s) URL`);
    if (secret === undefined && !LOOPBACK.has(url.hostname.replace(/[[\]]/g, '')))
      throw new Problem(
        `--edge ${text} is not on this machine, so heartbeats to it must be signed: set SIGNPOST_REGION_SECRET`,
      );
    return text.replace(/\/+$/, '');
  });
}

/** The key that the edge signs with; undefined on a server that only this machine reaches. */
function edgeKey({ secret, host }: { secret?: string; host: string }): Uint8Array | undefined {
  if (secret !== undefined) {
    try {
      return signingKey(secret);
    } catch (cause) {
      throw new Problem(`SIGNPOST_REGION_SECRET: ${cause instanceof Error ? cause.message : cause}`, { cause });
    }
  }
  if (LOOPBACK.has(host)) return undefined;
  throw new Problem(
    `without SIGNPOST_REGION_SECRET anyone who reaches ${host} could use this region; set it (openssl rand -hex 32), or listen on 127.0.0.1`,
  );
}

/** The hash of the key that metrics are read with; of one that nobody knows where others reach the server and none was set. */
async function metricsKey({ metricsKey: key, secret }: BackendOptions): Promise<Digest | undefined> {
  if (key !== undefined) return hashKey(key);
  return secret === undefined ? undefined : hashKey(randomUUID());
}

function createLog({ logLevel, region, onLog }: Defaults & BackendOptions): Logger {
  const options = { level: logLevel, base: { region } };
  return onLog === undefined ? pino(options) : pino(options, { write: onLog });
}

function checkSizes(settings: Defaults): void {
  const sizes = [
    'hostCacheBytes',
    'diskCacheBytes',
    'kvTokens',
    'maxStepTokens',
    'maxSequences',
    'maxStepExperts',
    'blockTokens',
    'maxRequests',
    'maxQueuedTokens',
    'requestTimeoutMs',
    'defaultMaxTokens',
  ] as const;
  for (const name of sizes) {
    if (!(settings[name] >= 1))
      throw new Problem(`${name} is ${settings[name]}; at least 1 is needed to serve anything`);
  }
}

/** What a user can mend is a Problem on the other side of the thread's border, too. */
async function startEngine(
  settings: Defaults & BackendOptions,
  {
    observer,
    log,
    onResidency,
  }: { readonly observer: EngineObserver; readonly log: Logger; readonly onResidency: () => void },
): Promise<EngineClient> {
  const { base, store, device, weights, slots, kvTokens } = settings;
  const { maxStepTokens, maxSequences, maxStepExperts, blockTokens } = settings;
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
        weights,
        slots,
        kvTokens,
        maxStepTokens,
        maxSequences,
        maxStepExperts,
        blockTokens,
      },
      {
        maxRequests,
        maxQueuedTokens,
        timeoutMs,
        observer,
        onLoading: (bytes, totalBytes) =>
          log.info({ bytes, totalBytes, percent: Math.round((100 * bytes) / totalBytes), weights }, 'loading the base'),
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
