/**
 * The whole system on one machine: regional backends and the Worker in front of them.
 */
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { type AddressInfo, createServer } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { CATALOGUE_KEY, Problem } from '@signpost/contracts';
import { buildWorker, type EdgeHandle, startEdge } from '@signpost/edge';
import { type BackendHandle, startBackend } from '@signpost/gpu-backend';
import { openStore } from '@signpost/store';
import { DEMO_BASE } from './paths.ts';

const CLASSIFIER_WAIT_MS = 30_000;

export interface RegionOptions {
  readonly name: string;
  /** Base checkpoint; the demo base when left out. */
  readonly base?: string;
  /** Store of its experts. */
  readonly store: string;
  /** 0 for any free port. */
  readonly port?: number;
}

export interface SystemOptions {
  readonly regions: readonly RegionOptions[];
  /** The Worker's port; 0 for any free one. */
  readonly edgePort: number;
  /** Routing rules (YAML); the repository's `routing.yaml` when left out. */
  readonly routing?: string;
  /** An administrator's key; left out, there is no admin API. */
  readonly adminKey?: string;
  /** Takes the regions' logs, a JSON line at a time; left out, warnings are printed. */
  readonly onLog?: (line: string) => void;
}

export interface System {
  readonly url: string;
  /** Sequences running now, in all regions. */
  running(): Promise<number>;
  /**
   * Starts the edge's classifier and waits for it, at most 30 s; how that went.
   *
   * @throws Problem when it is neither ready nor failed by then.
   */
  classifierStarted(): Promise<string>;
  close(): Promise<void>;
}

/** Starts the regions and the Worker. What was started is closed again when a later part fails to start. */
export async function startSystem(options: SystemOptions): Promise<System> {
  const secret = randomBytes(32).toString('hex');
  // Each has to know the other's address.
  const edgePort = options.edgePort === 0 ? await freePort() : options.edgePort;
  // Takes seconds: the regions are to find their edge soon after they start.
  await buildWorker();
  const backends: BackendHandle[] = [];
  let edge: EdgeHandle | undefined;
  const close = async () => {
    await Promise.all(backends.map((backend) => backend.close()));
    await edge?.close();
  };
  try {
    for (const region of options.regions) {
      backends.push(
        await startBackend({
          base: region.base ?? DEMO_BASE,
          store: region.store,
          region: region.name,
          host: '127.0.0.1',
          port: region.port ?? 0,
          secret,
          edge: [`http://127.0.0.1:${edgePort}`],
          ...(options.onLog === undefined ? { logLevel: 'warn' } : { onLog: options.onLog }),
        }),
      );
    }
    const [{ store = '' } = {}] = options.regions;
    const regions = options.regions.map(({ name }, i) => ({ name, url: backends[i]?.url ?? '' }));
    edge = await startEdge({
      port: edgePort,
      regions,
      regionSecret: secret,
      // What R2 would have: it is the regions' store.
      artifacts: { [CATALOGUE_KEY]: (await openStore(store).read(CATALOGUE_KEY)).data },
      ...(options.routing === undefined ? {} : { routing: options.routing }),
      // With an administrator, too, everybody is served.
      ...(options.adminKey === undefined
        ? {}
        : { adminKeys: { [options.adminKey]: 'demo' }, variables: { ALLOW_ANONYMOUS: 'true' } }),
    });
    const running = async () => {
      const beats = await Promise.all(backends.map((backend) => backend.heartbeat()));
      return beats.reduce((sum, beat) => sum + beat.running, 0);
    };
    const { url } = edge;
    return { url, running, classifierStarted: () => classifierStarted(url), close };
  } catch (error) {
    await close();
    throw error;
  }
}

/** A port of this machine that nobody listens on. */
export async function freePort(): Promise<number> {
  const probe = createServer().listen(0, '127.0.0.1');
  await once(probe, 'listening');
  const { port } = probe.address() as AddressInfo;
  probe.close();
  await once(probe, 'close');
  return port;
}

async function classifierStarted(url: string): Promise<string> {
  const started = performance.now();
  while (performance.now() - started < CLASSIFIER_WAIT_MS) {
    // Asking starts it, too.
    const health = (await (await fetch(`${url}/health`)).json()) as {
      classifier: { status: string; detail?: string };
    };
    const { status, detail } = health.classifier;
    if (status === 'ready' || status === 'failed') return `${status}: ${detail}`;
    await sleep(20);
  }
  throw new Problem(`the classifier did not start within ${CLASSIFIER_WAIT_MS} ms`);
}
