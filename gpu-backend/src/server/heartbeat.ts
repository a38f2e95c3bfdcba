/**
 * What this region tells about itself, and to whom: to each of its edges every two seconds, and at once when an expert has come or gone, or it drains. An edge
 * that is slow or gone holds up none of the others.
 */
import { randomUUID } from 'node:crypto';
import {
  HEARTBEAT_AUDIENCE,
  HEARTBEAT_INTERVAL_MS,
  HEARTBEAT_PATH,
  HEARTBEAT_SILENCE_MS,
  type Heartbeat,
  signRequest,
} from '@signpost/contracts';
import type { EngineClient } from '../runner/engine-client.ts';

export interface HeartbeatOptions {
  readonly region: string;
  readonly engine: Pick<EngineClient, 'stats' | 'facts' | 'queuedTokens' | 'prefillTokensPerSecond'>;
  readonly isDraining: () => boolean;
  /** URLs of the edges to tell, without a slash at the end. */
  readonly edges: readonly string[];
  /** What they are signed with; undefined where all are on this machine. */
  readonly signingKey: Uint8Array | undefined;
  /** Told when an edge has not been reached for so long that it takes this region for gone, and when it was again. */
  readonly onReach: (edge: string, problem: string | undefined) => void;
  /** How long that is; the edge's own time if left out. */
  readonly silenceMs?: number;
}

/** Changes within it are told together; no edge is told more often. */
const GATHER_MS = 50;
const TIMEOUT_MS = 2_000;

export class Heartbeats {
  readonly #options: HeartbeatOptions;
  readonly #replica = randomUUID();
  readonly #edges: readonly EdgeHeartbeats[];

  constructor(options: HeartbeatOptions) {
    this.#options = options;
    this.#edges = options.edges.map((edge) => new EdgeHeartbeats(edge, options, () => this.current()));
  }

  async current(): Promise<Heartbeat> {
    const { region, engine, isDraining } = this.#options;
    const { residency, host, ...stats } = await engine.stats();
    return {
      region,
      replica: this.#replica,
      sentAt: Date.now(),
      base: engine.facts.base,
      running: stats.running,
      waiting: stats.waiting,
      queuedTokens: engine.queuedTokens,
      prefillTokensPerSecond: engine.prefillTokensPerSecond,
      kvBlocksFree: stats.kvBlocksFree,
      kvBlocks: stats.kvBlocks,
      slots: residency.slots,
      slotsFree: residency.slotsFree,
      experts: { device: [...residency.resident], host: [...host.whole], loading: [...residency.loading] },
      pageInBytesPerSecond: { host: stats.bytesPerSecond.host, store: stats.bytesPerSecond.store },
      draining: isDraining(),
    };
  }

  /** Says that what heartbeats tell has changed. */
  changed(): void {
    for (const edge of this.#edges) edge.changed();
  }

  /** Tells once more, if it was told of a change, and never again. */
  async close(): Promise<void> {
    await Promise.all(this.#edges.map((edge) => edge.close()));
  }
}

/** One edge's heartbeats, one after the other. */
class EdgeHeartbeats {
  readonly #edge: string;
  readonly #options: HeartbeatOptions;
  readonly #current: () => Promise<Heartbeat>;
  /** When it was last told, by `performance.now()`; or when it was first tried. */
  #reachedAt: number | undefined;
  /** Whether it takes this region for gone. */
  #isUnreached = false;
  #timer: NodeJS.Timeout | undefined;
  #sending: Promise<void> | undefined;
  #lastSent = 0;
  #hasChanged = false;
  #isClosed = false;

  constructor(edge: string, options: HeartbeatOptions, current: () => Promise<Heartbeat>) {
    this.#edge = edge;
    this.#options = options;
    this.#current = current;
    this.#plan(0);
  }

  changed(): void {
    // The first of several plans the next beat: changes that went on and on would put it off for ever.
    const isPlanned = this.#hasChanged;
    this.#hasChanged = true;
    if (this.#sending === undefined && !isPlanned) this.#plan(GATHER_MS);
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    clearTimeout(this.#timer);
    await this.#sending;
    if (this.#hasChanged) await this.#send();
  }

  #plan(inMs: number): void {
    if (this.#isClosed) return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      this.#sending = this.#send().finally(() => {
        this.#sending = undefined;
        const sinceMs = performance.now() - this.#lastSent;
        this.#plan(this.#hasChanged ? GATHER_MS : Math.max(0, HEARTBEAT_INTERVAL_MS - sinceMs));
      });
    }, inMs).unref();
  }

  async #send(): Promise<void> {
    this.#hasChanged = false;
    this.#lastSent = performance.now();
    const body = await this.#current().then(JSON.stringify, () => undefined);
    // An engine that is gone says so in its health check; an edge that hears nothing looks elsewhere.
    if (body !== undefined) this.#note(await this.#tell(body));
  }

  /** @returns what went wrong. */
  async #tell(body: string): Promise<string | undefined> {
    const { signingKey: key } = this.#options;
    const request = { region: HEARTBEAT_AUDIENCE, method: 'POST', path: HEARTBEAT_PATH, body };
    try {
      const authorization =
        key === undefined ? {} : { authorization: `Bearer ${await signRequest(key, request, { tenant: undefined })}` };
      const response = await fetch(`${this.#edge}${HEARTBEAT_PATH}`, {
        method: 'POST',
        body,
        headers: { 'content-type': 'application/json', ...authorization },
        signal: AbortSignal.timeout(TIMEOUT_MS),
      });
      const text = await response.text();
      return response.ok ? undefined : `it answered ${response.status} ${text.slice(0, 200)}`;
    } catch (error) {
      const { cause, message } = error as Error;
      return cause instanceof Error ? `${message}: ${cause.message}` : message;
    }
  }

  #note(problem: string | undefined): void {
    const { onReach, silenceMs = HEARTBEAT_SILENCE_MS } = this.#options;
    const now = performance.now();
    if (problem === undefined) {
      this.#reachedAt = now;
      if (this.#isUnreached) onReach(this.#edge, undefined);
      this.#isUnreached = false;
      return;
    }
    this.#reachedAt ??= now;
    if (this.#isUnreached || now - this.#reachedAt < silenceMs) return;
    this.#isUnreached = true;
    onReach(this.#edge, problem);
  }
}
