/**
 * What this region tells about itself, and to whom: to each of its edges every two seconds, and at once when an expert has come or gone, or it drains.
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

/** Changes within it are told together. */
const GATHER_MS = 50;
const TIMEOUT_MS = 2_000;

export class Heartbeats {
  readonly #options: HeartbeatOptions;
  readonly #replica = randomUUID();
  /** When each edge was last told, by `performance.now()`; or when it was first tried. */
  readonly #reachedAt = new Map<string, number>();
  /** Edges that take this region for gone. */
  readonly #unreached = new Set<string>();
  #timer: NodeJS.Timeout | undefined;
  #sending: Promise<void> | undefined;
  #lastSent = 0;
  #hasChanged = false;
  #isClosed = false;

  constructor(options: HeartbeatOptions) {
    this.#options = options;
    this.#plan(0);
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
      experts: { device: [...residency.resident], host: [...host.files], loading: [...residency.loading] },
      pageInBytesPerSecond: { host: stats.bytesPerSecond.host, store: stats.bytesPerSecond.store },
      draining: isDraining(),
    };
  }

  /** Says that what heartbeats tell has changed. */
  changed(): void {
    // The first of several plans the next beat: changes that went on and on would put it off for ever.
    const isPlanned = this.#hasChanged;
    this.#hasChanged = true;
    if (this.#sending === undefined && !isPlanned) this.#plan(GATHER_MS);
  }

  /** Tells once more, if it was told of a change, and never again. */
  async close(): Promise<void> {
    this.#isClosed = true;
    clearTimeout(this.#timer);
    await this.#sending;
    if (this.#hasChanged) await this.#send();
  }

  #plan(inMs: number): void {
    if (this.#options.edges.length === 0 || this.#isClosed) return;
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
    const body = await this.current().then(JSON.stringify, () => undefined);
    // An engine that is gone says so in its health check; an edge that hears nothing looks elsewhere.
    if (body !== undefined) await Promise.all(this.#options.edges.map((edge) => this.#tell(edge, body)));
  }

  async #tell(edge: string, body: string): Promise<void> {
    const { signingKey: key } = this.#options;
    const request = { region: HEARTBEAT_AUDIENCE, method: 'POST', path: HEARTBEAT_PATH, body };
    let problem: string | undefined;
    try {
      const authorization =
        key === undefined ? {} : { authorization: `Bearer ${await signRequest(key, request, { tenant: undefined })}` };
      const response = await fetch(`${edge}${HEARTBEAT_PATH}`, {
        method: 'POST',
        body,
        headers: { 'content-type': 'application/json', ...authorization },
        signal: AbortSignal.timeout(TIMEOUT_MS),
      });
      const text = await response.text();
      if (!response.ok) problem = `it answered ${response.status} ${text.slice(0, 200)}`;
    } catch (error) {
      const { cause, message } = error as Error;
      problem = cause instanceof Error ? `${message}: ${cause.message}` : message;
    }
    this.#note(edge, problem);
  }

  #note(edge: string, problem: string | undefined): void {
    const { onReach, silenceMs = HEARTBEAT_SILENCE_MS } = this.#options;
    const now = performance.now();
    if (problem === undefined) {
      this.#reachedAt.set(edge, now);
      if (this.#unreached.delete(edge)) onReach(edge, undefined);
      return;
    }
    const since = this.#reachedAt.get(edge) ?? now;
    this.#reachedAt.set(edge, since);
    if (this.#unreached.has(edge) || now - since < silenceMs) return;
    this.#unreached.add(edge);
    onReach(edge, problem);
  }
}
