/**
 * The regional backend: one base, experts paged in from a store, an OpenAI-compatible API.
 */
import type { Heartbeat } from '@signpost/contracts';
import { createLog, openBackend } from './backend.ts';
import { BACKEND_DEFAULTS, type BackendOptions, checkSizes, edgeKeysAt } from './options.ts';
import { HttpServer } from './server/http-server.ts';
import { answerStarting } from './server/starting.ts';

export { BACKEND_DEFAULTS, type BackendOptions } from './options.ts';

export interface BackendHandle {
  /** Without a slash at the end: `http://127.0.0.1:8000`. */
  readonly url: string;
  heartbeat(): Promise<Heartbeat>;
  /** Refuses new requests, lets those in flight end for at most `limitMs` (0 if left out), fails the rest, then stops. */
  close(limitMs?: number): Promise<void>;
}

/**
 * Loads the base and serves it. The address is taken before the base is loaded, and answers health checks meanwhile.
 *
 * @throws Problem when the base can't be loaded, the port is taken, a size makes no sense, or the server would be open to others without a secret.
 */
export async function startBackend(options: BackendOptions): Promise<BackendHandle> {
  const settings = { ...BACKEND_DEFAULTS, ...options };
  checkSizes(settings);
  const keys = edgeKeysAt(settings.host, settings.secret);
  const log = createLog(settings);
  const started = performance.now();
  const http = new HttpServer(answerStarting);
  const url = await http.listen(settings.host, settings.port);
  try {
    const backend = await openBackend(settings, { keys, log, upkeep: 'timed' });
    http.serve((request) => backend.fetch(request, Date.now()));
    const { base, weightBytes, deviceBytes, loadMs } = backend.facts;
    const startMs = Math.round(performance.now() - started);
    log.info({ url, base, weights: settings.weights, weightBytes, deviceBytes, loadMs, startMs }, 'ready');
    async function stop(limitMs: number): Promise<void> {
      log.info({ limitMs }, 'draining');
      backend.drain();
      await http.idle(limitMs);
      await backend.close(() => http.close());
      log.info('stopped');
    }
    let stopping: Promise<void> | undefined;
    return {
      url,
      heartbeat: () => backend.heartbeat(),
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
