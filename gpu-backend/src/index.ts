/**
 * The regional backend: one base, experts paged in from a store, an OpenAI-compatible API.
 */
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { getRequestListener } from '@hono/node-server';
import { type Heartbeat, Problem, signingKey } from '@signpost/contracts';
import { type DeviceName, Tokenizer } from '@signpost/engine';
import { openStore } from '@signpost/store';
import { pino } from 'pino';
import { CatalogueWatch } from './experts/catalogue-watch.ts';
import { EngineClient } from './runner/engine-client.ts';
import { createApp } from './server/app.ts';
import { Heartbeats } from './server/heartbeat.ts';

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
  readonly device?: DeviceName;
  /** Expert slots. */
  readonly slots?: number;
  /** Tokens that the KV cache holds. */
  readonly kvTokens?: number;
  /** Most rows of one step. */
  readonly maxStepTokens?: number;
  /** Most sequences that run at once. */
  readonly maxSequences?: number;
  /** Requests in flight beyond which new ones are refused. */
  readonly maxRequests?: number;
  readonly logLevel?: string;
}

type Defaults = Required<Omit<BackendOptions, 'base' | 'store' | 'region' | 'secret'>>;

export const BACKEND_DEFAULTS: Defaults = {
  host: '127.0.0.1',
  port: 8000,
  device: 'cpu',
  slots: 8,
  kvTokens: 16_384,
  maxStepTokens: 256,
  maxSequences: 64,
  maxRequests: 256,
  logLevel: 'info',
};

export interface BackendHandle {
  /** Without a slash at the end: `http://127.0.0.1:8000`. */
  readonly url: string;
  heartbeat(): Promise<Heartbeat>;
  /** Refuses new requests, lets those in flight end for at most `limitMs`, then stops. */
  close(limitMs?: number): Promise<void>;
}

const LOOPBACK = new Set(['127.0.0.1', '::1', 'localhost']);
const DRAIN_POLL_MS = 20;

/**
 * Loads the base and serves it.
 *
 * @throws Problem when the base can't be loaded, the port is taken, or the server would be open to others without a secret.
 */
export async function startBackend(options: BackendOptions): Promise<BackendHandle> {
  const settings = { ...BACKEND_DEFAULTS, ...options };
  const { host, port } = settings;
  if (settings.secret === undefined && !LOOPBACK.has(host)) {
    throw new Problem(
      `without SIGNPOST_REGION_SECRET anyone who reaches ${host} could use this region; set it (openssl rand -hex 32), or listen on 127.0.0.1`,
    );
  }
  const log = pino({ level: settings.logLevel, base: { region: settings.region } });
  const started = performance.now();
  const [tokenizer, engine] = await Promise.all([Tokenizer.load(settings.base), startEngine(settings)]);
  let draining = false;
  const isDraining = () => draining;
  const heartbeats = new Heartbeats(settings.region, engine, isDraining);
  const app = createApp({
    engine,
    tokenizer,
    catalogue: new CatalogueWatch(openStore(settings.store), (problem) =>
      log.error({ problem }, 'the catalogue is not usable; the last good one stays'),
    ),
    maxRequests: settings.maxRequests,
    region: settings.region,
    signingKey: settings.secret === undefined ? undefined : signingKey(settings.secret),
    heartbeats,
    log,
    isDraining,
  });
  const server = createServer(getRequestListener(app.fetch));
  try {
    server.listen(port, host);
    await once(server, 'listening');
  } catch (cause) {
    await engine.close();
    const code = cause instanceof Error && 'code' in cause ? cause.code : cause;
    throw new Problem(`region ${settings.region} can't listen on ${host}:${port} (${code}); choose another port`, {
      cause,
    });
  }
  const { port: bound } = server.address() as AddressInfo;
  const url = `http://${host.includes(':') ? `[${host}]` : host}:${bound}`;
  log.info({ url, base: engine.facts.base, startMs: Math.round(performance.now() - started) }, 'ready');
  return {
    url,
    heartbeat: () => heartbeats.current(),
    async close(limitMs = 0) {
      draining = true;
      const deadline = performance.now() + limitMs;
      while (engine.inFlight > 0 && performance.now() < deadline) await sleep(DRAIN_POLL_MS);
      server.closeAllConnections();
      server.close();
      await engine.close();
    },
  };
}

/** What a user can mend is a Problem on the other side of the thread's border, too. */
async function startEngine(settings: Defaults & BackendOptions): Promise<EngineClient> {
  const { base, store, device, slots, kvTokens, maxStepTokens, maxSequences } = settings;
  try {
    return await EngineClient.start({ base, store, device, slots, kvTokens, maxStepTokens, maxSequences });
  } catch (cause) {
    if (cause instanceof Error) throw new Problem(cause.message, { cause });
    throw cause;
  }
}
