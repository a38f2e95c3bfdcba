/**
 * The edge on this machine: the Worker in workerd, with local KV and R2. For `npm start` and tests.
 */
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { Problem } from '@signpost/contracts';
import { Log, LogLevel, Miniflare } from 'miniflare';
import type { z } from 'zod';
import type { regionsSchema } from '../src/plan/regions.ts';
import { RULES_KEY } from '../src/rules/store.ts';
import { buildWorker, WRANGLER_TOML } from './build.ts';
import { objectsBehind } from './objects-behind.ts';

export interface EdgeOptions {
  readonly regions: z.input<typeof regionsSchema>;
  /** 0 or left out: any free one. */
  readonly port?: number;
  /** Shared with the regions, at least 32 bytes; may be left out when all are on this machine. */
  readonly regionSecret?: string;
  /** API keys without limits, and their tenants; left out, everybody is served, unless there are administrators to make keys. */
  readonly keys?: Readonly<Record<string, string>>;
  /** Administrators' keys and who they are; left out, there is no admin API. */
  readonly adminKeys?: Readonly<Record<string, string>>;
  /** Text of a routing.yaml to put into KV; left out, the bundled rules hold. */
  readonly routing?: string;
  /** Objects to put into R2. */
  readonly artifacts?: Readonly<Record<string, string | Uint8Array>>;
  /** Further variables, by their names in wrangler.toml. */
  readonly variables?: Readonly<Record<string, string>>;
  /** A folder that keeps KV, R2 and Durable Objects beyond this edge; left out, they go with it. */
  readonly folder?: string;
  /** Where requests come from, as Cloudflare would tell in `request.cf`. */
  readonly place?: Readonly<Record<string, string>>;
  /** URL that each call to a Durable Object asks first: it fails where that doesn't answer 200, and hangs as long as that does. Left out, none asks. */
  readonly objectsBehind?: string;
  /** Opens V8's inspector on this port, any free one for 0; left out, there is none. */
  readonly inspectorPort?: number;
  /** Takes the Worker's log, a line at a time; left out, errors are printed. */
  readonly onLog?: (line: EdgeLogLine) => void;
}

export interface EdgeLogLine {
  /** `debug`, `info`, `log`, `warn`, `error`. */
  readonly level: string;
  readonly message: string;
}

export interface EdgeHandle {
  /** Without a slash at the end: `http://127.0.0.1:8787`. */
  readonly url: string;
  /** The Worker without what Miniflare puts in front of it (`request.cf`, for one): what benchmarks measure. */
  readonly directUrl: string;
  /** @throws Error where it wasn't asked for. */
  inspector(): Promise<URL>;
  /** Puts a routing.yaml into KV. In force once the Worker's copy has aged (30 s). */
  setRouting(text: string): Promise<void>;
  /** Puts an object into R2, or takes it away. */
  setArtifact(key: string, value: string | Uint8Array | undefined): Promise<void>;
  close(): Promise<void>;
}

const HOST = '127.0.0.1';
const NAME = 'signpost';

/**
 * Builds and starts the Worker; resolves once it takes requests. Its classifier starts with the first of them.
 *
 * @throws Problem when the port is taken, or the Worker doesn't build.
 */
export async function startEdge(options: EdgeOptions): Promise<EdgeHandle> {
  const port = options.port ?? 0;
  await assertPortFree(port);
  const [modules, { assets, ...bindings }] = await Promise.all([buildWorker(), readBindings()]);
  const { onLog = printErrors } = options;
  const behind =
    options.objectsBehind === undefined
      ? undefined
      : objectsBehind(options.objectsBehind, bindings.durableObjects, NAME);
  const worker = {
    ...bindings,
    durableObjects: behind?.durableObjects ?? bindings.durableObjects,
    name: NAME,
    modules: modules.map((module) => ({ ...module })),
    bindings: { ...bindings.bindings, ...variables(options) },
    serviceBindings: { [assets?.binding ?? '']: CONSOLE_FILES },
    unsafeDirectSockets: [{ host: HOST, port: 0 }],
    // Miniflare would put a Worker between ours and the regions that takes out a header which ours doesn't send; Cloudflare has none there.
    stripCfConnectingIp: false,
  };
  const miniflare = new Miniflare({
    workers: [worker, consoleFiles(assets), ...(behind === undefined ? [] : [behind.worker])],
    host: HOST,
    port,
    // An object, so that Miniflare doesn't ask the network where we are.
    cf: { ...options.place },
    ...(options.inspectorPort === undefined ? {} : { inspectorPort: options.inspectorPort }),
    ...(options.folder === undefined ? {} : { defaultPersistRoot: options.folder }),
    log: new Log(LogLevel.NONE),
    // Miniflare refuses a handler that returns something.
    handleStructuredLogs: (line: EdgeLogLine) => void onLog(line),
  });
  try {
    const url = (await miniflare.ready).origin;
    const config = await miniflare.getKVNamespace('CONFIG');
    const artifacts = await miniflare.getR2Bucket('ARTIFACTS');
    if (options.routing !== undefined) await config.put(RULES_KEY, options.routing);
    const setArtifact = async (key: string, value: string | Uint8Array | undefined) => {
      if (value === undefined) await artifacts.delete(key);
      // Miniflare's proxy knows typed arrays, but no Buffer.
      else await artifacts.put(key, typeof value === 'string' ? value : new Uint8Array(value));
    };
    for (const [key, value] of Object.entries(options.artifacts ?? {})) await setArtifact(key, value);
    return {
      url,
      directUrl: (await miniflare.unsafeGetDirectURL(NAME)).origin,
      inspector: () => miniflare.getInspectorURL(),
      setRouting: (text) => config.put(RULES_KEY, text),
      setArtifact,
      close: () => miniflare.dispose(),
    };
  } catch (error) {
    await miniflare.dispose();
    throw error;
  }
}

const CONSOLE_FILES = 'console-files';

/** The static assets, as a Worker of their own: Miniflare would put a router before the one that has them, and each request of the API through it. */
function consoleFiles(assets: object | undefined) {
  return {
    name: CONSOLE_FILES,
    modules: true as const,
    script: 'export default { fetch: (request, { ASSETS }) => ASSETS.fetch(request) };',
    ...(assets === undefined ? {} : { assets: { ...assets, binding: 'ASSETS' } }),
  };
}

/** What wrangler.toml says of date, flags, variables and bindings, as Miniflare wants it. */
async function readBindings() {
  // Imported late: it is all of wrangler, and takes a second or two. Building the Worker makes the assets, which it insists on.
  const [{ unstable_getMiniflareWorkerOptions }] = await Promise.all([import('wrangler'), buildWorker()]);
  const options = unstable_getMiniflareWorkerOptions(WRANGLER_TOML).workerOptions;
  const { compatibilityDate, compatibilityFlags, bindings, kvNamespaces, r2Buckets, durableObjects } = options;
  const { queueProducers, queueConsumers, assets } = options;
  return {
    compatibilityDate,
    compatibilityFlags,
    bindings,
    kvNamespaces,
    r2Buckets,
    durableObjects,
    queueProducers,
    queueConsumers,
    assets,
  };
}

function variables(options: EdgeOptions): Record<string, string> {
  const { regions, regionSecret, keys, adminKeys } = options;
  return {
    REGIONS: JSON.stringify(regions),
    ...(regionSecret === undefined ? {} : { REGION_SECRET: regionSecret }),
    ...(keys === undefined ? {} : { API_KEY_HASHES: hashes(keys) }),
    ...(adminKeys === undefined ? {} : { ADMIN_KEY_HASHES: hashes(adminKeys) }),
    ...(keys === undefined && adminKeys === undefined ? { ALLOW_ANONYMOUS: 'true' } : {}),
    ...options.variables,
  };
}

/** Keys' names by their sha256, as the secrets have them. */
function hashes(keys: Readonly<Record<string, string>>): string {
  const hash = (key: string) => createHash('sha256').update(key).digest('hex');
  return JSON.stringify(Object.fromEntries(Object.entries(keys).map(([key, name]) => [hash(key), name])));
}

function printErrors({ level, message }: EdgeLogLine): void {
  if (level === 'error') process.stderr.write(`edge: ${message}\n`);
}

/** @throws Problem when something listens there already. workerd's own message doesn't name the port. */
async function assertPortFree(port: number): Promise<void> {
  if (port === 0) return;
  const probe = createServer().listen(port, HOST);
  try {
    await once(probe, 'listening');
  } catch (cause) {
    throw new Problem(
      `the edge can't listen on ${HOST}:${port} (${(cause as NodeJS.ErrnoException).code}); choose another port`,
      { cause },
    );
  }
  probe.close();
  await once(probe, 'close');
}
