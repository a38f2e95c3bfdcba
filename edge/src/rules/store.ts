/**
 * Which rules are in force: those in KV, else the last good ones, else those bundled with the Worker.
 *
 * An isolate's first request waits for KV, so that none is routed by rules that were replaced; later ones are served from memory while
 * a refresh runs beside them. Rules that don't validate are never in force: the reason is logged and shown, and the good ones stay.
 */
import { type RoutingRules, sha256 } from '@signpost/contracts';
import { Cached } from '../cached.ts';
import { misconfigured } from '../settings/misconfigured.ts';
import { parseRulesText } from './parse.ts';

export const RULES_KEY = 'routing.yaml';
export const RULES_MAX_AGE_MS = 30_000;

export interface RulesInForce {
  readonly rules: RoutingRules;
  /** `given`: with a request that tries them. */
  readonly source: 'kv' | 'bundled' | 'given';
  /** First characters of the text's sha256. */
  readonly version: string;
  /** As the admin API counts its versions; undefined for a text that was put into KV by hand, or is bundled. */
  readonly number: number | undefined;
  /** When they were last found to be the current ones, in milliseconds since the epoch. */
  readonly checkedAt: number;
  /** Why newer ones are not in force, where there are some. */
  readonly problem?: string;
}

export interface RulesStoreOptions {
  readonly bundled: string;
  /** Names of the configured regions. */
  readonly regions: readonly string[];
  /** What is in KV; undefined where there is nothing. */
  readonly read: () => Promise<RulesText | undefined>;
  readonly now: () => number;
  readonly log: (event: string, fields: Record<string, unknown>) => void;
}

/** What KV holds. */
export interface RulesText {
  readonly text: string;
  /** Undefined where it was put there by hand. */
  readonly number: number | undefined;
}

export class RulesStore {
  readonly #options: RulesStoreOptions;
  readonly #inForce: Cached<RulesInForce>;
  #last: RulesInForce | undefined;

  constructor(options: RulesStoreOptions) {
    this.#options = options;
    const { now, log } = options;
    this.#inForce = new Cached({
      name: 'rules',
      maxAgeMs: RULES_MAX_AGE_MS,
      read: async () => {
        this.#last = await this.#load();
        return this.#last;
      },
      now,
      log,
    });
  }

  /** As this isolate has them, if it has them. */
  get known(): RulesInForce | undefined {
    return this.#last;
  }

  /**
   * The rules to decide this request by.
   *
   * @param waitUntil keeps a refresh running beyond the request.
   * @throws ApiError (`misconfigured`) when neither KV nor the bundle holds valid rules.
   */
  current(waitUntil: (promise: Promise<unknown>) => void): Promise<RulesInForce> {
    return this.#inForce.known(waitUntil);
  }

  async #load(): Promise<RulesInForce> {
    const { read, log } = this.#options;
    try {
      const found = await read();
      if (found !== undefined) return await this.#accept(found, 'kv');
    } catch (error) {
      const problem = error instanceof Error ? error.message : String(error);
      log('rules_refused', { problem });
      return { ...(this.#last ?? (await this.#bundled())), problem };
    }
    return this.#bundled();
  }

  async #bundled(): Promise<RulesInForce> {
    try {
      return await this.#accept({ text: this.#options.bundled, number: undefined }, 'bundled');
    } catch (error) {
      throw misconfigured(error instanceof Error ? error.message : String(error));
    }
  }

  async #accept({ text, number }: RulesText, source: RulesInForce['source']): Promise<RulesInForce> {
    const version = await versionOf(text);
    const where = source === 'kv' ? `${RULES_KEY} in KV` : `${RULES_KEY} (bundled)`;
    const rules =
      this.#last?.version === version && this.#last.source === source
        ? this.#last.rules
        : parseRulesText(text, where, this.#options.regions);
    return { rules, source, version, number, checkedAt: this.#options.now() };
  }
}

/** First characters of a rule set's sha256. */
export async function versionOf(text: string): Promise<string> {
  return (await sha256(new TextEncoder().encode(text))).slice(0, 12);
}
