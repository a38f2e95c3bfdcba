/**
 * Which rules are in force: those in KV, else the last good ones, else those bundled with the Worker.
 *
 * An isolate's first request waits for KV, so that none is routed by rules that were replaced; later ones are served from memory while
 * a refresh runs beside them. Rules that don't validate are never in force: the reason is logged and shown, and the good ones stay.
 */
import { type RoutingRules, sha256 } from '@signpost/contracts';
import { misconfigured } from '../settings/settings.ts';
import { parseRulesText } from './parse.ts';

export const RULES_KEY = 'routing.yaml';
export const RULES_MAX_AGE_MS = 30_000;
/** A refresh that takes longer is taken for lost (its request may have been cancelled), and another one starts. */
const REFRESH_TIMEOUT_MS = 10_000;

export interface RulesInForce {
  readonly rules: RoutingRules;
  readonly source: 'kv' | 'bundled';
  /** First characters of the text's sha256. */
  readonly version: string;
  /** When they were last found to be the current ones, in milliseconds since the epoch. */
  readonly checkedAt: number;
  /** Why newer ones are not in force, where there are some. */
  readonly problem?: string;
}

export interface RulesStoreOptions {
  readonly bundled: string;
  /** Names of the configured regions. */
  readonly regions: readonly string[];
  /** The text in KV; null where there is none. */
  readonly read: () => Promise<string | null>;
  readonly now: () => number;
  readonly log: (event: string, fields: Record<string, unknown>) => void;
}

export class RulesStore {
  readonly #options: RulesStoreOptions;
  #current: RulesInForce | undefined;
  #refreshStartedAt: number | undefined;

  constructor(options: RulesStoreOptions) {
    this.#options = options;
  }

  /** As this isolate has them, if it has them. */
  get known(): RulesInForce | undefined {
    return this.#current;
  }

  /**
   * The rules to decide this request by.
   *
   * @param waitUntil keeps a refresh running beyond the request.
   * @throws ApiError (`misconfigured`) when neither KV nor the bundle holds valid rules.
   */
  async current(waitUntil: (promise: Promise<unknown>) => void): Promise<RulesInForce> {
    const current = this.#current;
    if (current === undefined) return this.#refresh();
    const now = this.#options.now();
    const refreshing = this.#refreshStartedAt !== undefined && now - this.#refreshStartedAt < REFRESH_TIMEOUT_MS;
    if (now - current.checkedAt >= RULES_MAX_AGE_MS && !refreshing) waitUntil(this.#refresh());
    return current;
  }

  async #refresh(): Promise<RulesInForce> {
    this.#refreshStartedAt = this.#options.now();
    try {
      this.#current = await this.#load();
      return this.#current;
    } finally {
      this.#refreshStartedAt = undefined;
    }
  }

  async #load(): Promise<RulesInForce> {
    const { read, now, log } = this.#options;
    try {
      const text = await read();
      if (text !== null) return await this.#accept(text, 'kv');
    } catch (error) {
      const problem = error instanceof Error ? error.message : String(error);
      log('rules_refused', { problem });
      // What is in force stays, checked just now: a broken KV is asked again after the usual age, not on every request.
      return { ...(this.#current ?? (await this.#bundled())), checkedAt: now(), problem };
    }
    return this.#bundled();
  }

  async #bundled(): Promise<RulesInForce> {
    try {
      return await this.#accept(this.#options.bundled, 'bundled');
    } catch (error) {
      throw misconfigured(error instanceof Error ? error.message : String(error));
    }
  }

  async #accept(text: string, source: RulesInForce['source']): Promise<RulesInForce> {
    const version = (await sha256(new TextEncoder().encode(text))).slice(0, 12);
    const checkedAt = this.#options.now();
    if (this.#current?.version === version && this.#current.source === source)
      return { rules: this.#current.rules, source, version, checkedAt };
    const where = source === 'kv' ? `${RULES_KEY} in KV` : `${RULES_KEY} (bundled)`;
    return { rules: parseRulesText(text, where, this.#options.regions), source, version, checkedAt };
  }
}
