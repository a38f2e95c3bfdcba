/**
 * How busy strangers' servers are, from the metrics that they publish (Prometheus text): asked beside requests, a copy a few seconds old for each isolate.
 */
import { readText } from '@signpost/contracts';
import { Cached } from '../cached.ts';
import type { OpenaiRegion } from '../plan/regions.ts';
import { type BackendSecrets, secretNamed } from './backend.ts';

export interface ForeignLoad {
  readonly waiting: number;
  readonly running: number;
}

/** Names of what waits and what runs, by server. */
const GAUGES = {
  waiting: [
    'vllm:num_requests_waiting',
    'llamacpp:requests_deferred',
    'sglang:num_queue_reqs',
    // Text Generation Inference
    'tgi_queue_size',
  ],
  running: [
    'vllm:num_requests_running',
    'llamacpp:requests_processing',
    'sglang:num_running_reqs',
    'tgi_batch_current_size',
  ],
} as const;

const MAX_AGE_MS = 2_000;
/** An isolate that had nothing to do knows nothing new: what is older is no knowledge. */
const WORTHLESS_AFTER_MS = 10_000;
/** A server without metrics is asked for them again after so long. */
const MISSING_FOR_MS = 600_000;
const TIMEOUT_MS = 2_000;
const MAX_METRICS_BYTES = 4 * 1024 * 1024;

/** The sums of its gauges over all labels; undefined where the text has none of them. */
export function readLoad(text: string): ForeignLoad | undefined {
  const sums = { waiting: undefined as number | undefined, running: undefined as number | undefined };
  for (const line of text.split('\n')) {
    if (line.startsWith('#')) continue;
    const { name, value } = /^(?<name>[a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{.*\})?\s+(?<value>\S+)/.exec(line)?.groups ?? {};
    for (const kind of ['waiting', 'running'] as const) {
      const amount = Number(value);
      if ((GAUGES[kind] as readonly (string | undefined)[]).includes(name) && Number.isFinite(amount) && amount >= 0)
        sums[kind] = (sums[kind] ?? 0) + amount;
    }
  }
  if (sums.waiting === undefined) return undefined;
  return { waiting: sums.waiting, running: sums.running ?? 0 };
}

interface Reading {
  readonly at: number;
  readonly load: ForeignLoad | undefined;
}

export interface ForeignLoadsOptions extends BackendSecrets {
  readonly now: () => number;
  readonly log: (event: string, fields: Record<string, unknown>) => void;
}

export class ForeignLoads {
  readonly #options: ForeignLoadsOptions;
  readonly #readings = new Map<string, Cached<Reading>>();
  readonly #missingUntil = new Map<string, number>();

  constructor(options: ForeignLoadsOptions) {
    this.#options = options;
  }

  /** @param waitUntil keeps a refresh running beyond the request. */
  of(region: OpenaiRegion, waitUntil: (promise: Promise<unknown>) => void): ForeignLoad | undefined {
    const now = this.#options.now();
    if (now < (this.#missingUntil.get(region.name) ?? 0)) return undefined;
    let cached = this.#readings.get(region.name);
    if (cached === undefined) {
      const { now, log } = this.#options;
      cached = new Cached({ name: 'metrics', maxAgeMs: MAX_AGE_MS, read: () => this.#read(region), now, log });
      this.#readings.set(region.name, cached);
    }
    const reading = cached.current(waitUntil);
    return reading === undefined || now - reading.at > WORTHLESS_AFTER_MS ? undefined : reading.load;
  }

  /** Never rejects, or each request would try again. */
  async #read(region: OpenaiRegion): Promise<Reading> {
    const { now, log } = this.#options;
    const url = region.metricsUrl ?? `${region.url}/metrics`;
    try {
      const response = await fetch(url, {
        headers: this.#headers(region, url),
        redirect: 'manual',
        signal: AbortSignal.timeout(TIMEOUT_MS),
      });
      const text = await readText(response, MAX_METRICS_BYTES);
      const load = response.ok ? readLoad(text) : undefined;
      if (load === undefined) {
        // Unlike a server that is down, one without them won't have any in two seconds.
        if (response.status < 500) this.#missingUntil.set(region.name, now() + MISSING_FOR_MS);
        const why = response.ok ? 'none of the gauges that tell of a queue' : `answered ${response.status}`;
        log('metrics_unusable', { region: region.name, reason: why });
      }
      return { at: now(), load };
    } catch (error) {
      log('metrics_unusable', { region: region.name, reason: error instanceof Error ? error.message : String(error) });
      return { at: now(), load: undefined };
    }
  }

  /** The key goes where requests go, and nowhere else. */
  #headers(region: OpenaiRegion, url: string): Record<string, string> {
    if (region.keySecret === undefined || new URL(url).origin !== new URL(region.url).origin) return {};
    return { authorization: `Bearer ${secretNamed(region.keySecret, this.#options)}` };
  }
}
