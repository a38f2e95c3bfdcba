/**
 * Answers that are given again, for rules with `cache`: in Cloudflare's Cache API, by the digest of all that they depend on (`cacheable.ts`). A version that was
 * published since has another digest, and with it no answers yet.
 */
import { sha256 } from '@signpost/contracts';
import type { Ask } from '../ask/ask.ts';
import type { Outcome } from '../forward/outcome.ts';
import type { AnswerText } from './answer-text.ts';
import type { Cacheability, Cacheable } from './cacheable.ts';
import { type KeptAnswer, replay } from './replay.ts';

/** The part of the Cache API in use. Keys are URLs that nobody else has: nothing is ever fetched from there. */
interface AnswerStore {
  match(url: string): Promise<Response | undefined>;
  put(url: string, response: Response): Promise<unknown>;
}

const KEY_URL = 'https://answers.signpost.invalid/';

export interface AnswerCacheOptions {
  readonly open: () => Promise<AnswerStore>;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
  readonly log: (event: string, fields: Record<string, unknown>) => void;
}

/** What a request found, for its account. */
export interface CacheFinding {
  readonly state: 'hit' | 'miss' | 'bypass';
  /** Of the experts that made the answer, of a hit; undefined for the base. */
  readonly digests?: string | undefined;
}

/** What the cache has to say to a request. */
export type Lookup =
  | { readonly state: 'off' }
  | { readonly state: 'bypass' }
  | { readonly state: 'hit'; readonly response: Response; readonly digests: string | undefined }
  | {
      readonly state: 'miss';
      /** Keeps the answer, if it is one that may be: whole, by the chosen versions, and counted by its region. Never rejects. */
      readonly keep: (answer: AnswerText | undefined, outcome: Outcome) => Promise<void>;
    };

export class AnswerCache {
  readonly #options: AnswerCacheOptions;

  constructor(options: AnswerCacheOptions) {
    this.#options = options;
  }

  /** Never rejects: a cache that can't be read is one that has nothing. */
  async look(what: Cacheability, ask: Ask, requestId: string): Promise<Lookup> {
    if (what.kind !== 'cacheable') return { state: what.kind };
    const { now } = this.#options;
    const url = `${KEY_URL}${await sha256(new TextEncoder().encode(what.material))}`;
    const kept = await this.#read(url);
    if (kept !== undefined)
      return { state: 'hit', response: replay(kept, ask, requestId, now()), digests: kept.digests ?? undefined };
    return { state: 'miss', keep: (answer, outcome) => this.#keep(url, what, answer, outcome) };
  }

  async #read(url: string): Promise<KeptAnswer | undefined> {
    try {
      const found = await (await this.#options.open()).match(url);
      return found === undefined ? undefined : ((await found.json()) as KeptAnswer);
    } catch (error) {
      this.#options.log('answer_cache_unreadable', { reason: String(error) });
      return undefined;
    }
  }

  async #keep(
    url: string,
    { digests, rule }: Cacheable,
    answer: AnswerText | undefined,
    { ending, digests: answered, usage }: Outcome,
  ): Promise<void> {
    if (answer === undefined || ending !== 'whole' || answered !== digests) return;
    if (usage?.countedBy !== 'region' || usage.promptTokens === undefined) return;
    const { promptTokens, completionTokens } = usage;
    const keptAt = this.#options.now();
    const kept: KeptAnswer = { ...answer, promptTokens, completionTokens, digests: digests ?? null, keptAt };
    try {
      const store = await this.#options.open();
      await store.put(url, Response.json(kept, { headers: { 'cache-control': `max-age=${rule.seconds}` } }));
    } catch (error) {
      this.#options.log('answer_cache_unwritable', { reason: String(error) });
    }
  }
}
