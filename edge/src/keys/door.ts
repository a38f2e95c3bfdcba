/**
 * Letting requests in: who asks, by which key, and whether it fits the key's limits.
 *
 * A managed key costs one hop to its object before a request is routed and, where it has a limit that answers under way count against, one after its end. Keys
 * from the secret API_KEY_HASHES, and requests without a key where those are served, cost none and have no limits.
 */
import { ApiError } from '@signpost/contracts';
import type { Caller } from '../auth/keys.ts';
import { withTimeout } from '../forward/timeout.ts';
import type { AdmissionAnswer, KeyObject, KnownKey } from './admission.ts';
import { limitHeaders, limitReached } from './limit-headers.ts';
import { LEASE_MS, type Standing } from './meter.ts';

export interface DoorOptions {
  /** The object of the key with this hash. */
  readonly key: (hash: string) => KeyObject;
  /** What becomes of a request whose key's object can't be reached. `admit` lets in, uncounted, keys that this isolate has lately seen to be good. */
  readonly whenUnreachable: 'refuse' | 'admit';
  readonly now: () => number;
  readonly log: (event: string, fields: Record<string, unknown>) => void;
}

/** Who asks, and what they may do. */
export interface Guest {
  readonly tenant: string | undefined;
  /** Undefined for a request without a key, or by one from API_KEY_HASHES. */
  readonly keyId: string | undefined;
  /** Patterns, see `allowed-models.ts`. */
  readonly models: readonly string[];
  readonly standing: Standing;
}

export interface Admission extends Guest {
  /** For the answer. */
  readonly headers: Readonly<Record<string, string>>;
  /** To be told once how many tokens the answer came to, whatever became of it, while its request's context lives. */
  readonly end: (tokens: number) => void;
}

type WaitUntil = (promise: Promise<unknown>) => void;

const ALL_MODELS: readonly string[] = ['*'];
const HOP_TIMEOUT_MS = 3_000;
const RENEW_MS = LEASE_MS / 3;
/** How long a key counts as good that nobody can ask about. */
const TRUSTED_MS = 300_000;
const MAX_TRUSTED = 1_000;

export class Door {
  readonly #options: DoorOptions;
  /** Keys seen to be good, the latest last. */
  readonly #trusted = new Map<string, { readonly key: KnownKey; readonly at: number }>();

  constructor(options: DoorOptions) {
    this.#options = options;
  }

  /** Who asks, with nothing counted. @throws ApiError (401) for a key that isn't good, (503) where nobody knows. */
  async look(caller: Caller): Promise<Guest> {
    if (caller.kind !== 'managed') return unlimited(caller);
    const answer = await this.#ask(caller.hash, 'look', (object) => object.look());
    if (answer === undefined) return this.#uncounted(caller.hash);
    if (answer.kind !== 'good') throw this.#noKey(caller.hash, answer.kind);
    return guest(answer.key, answer.standing);
  }

  /**
   * Lets a request in.
   *
   * @param tokens the most that it may come to.
   * @param waitUntil keeps what is told to the key's object running beyond the request.
   * @throws ApiError as `look` does, and (429) where it doesn't fit the key's limits.
   */
  async admit(caller: Caller, tokens: number, waitUntil: WaitUntil): Promise<Admission> {
    if (caller.kind !== 'managed') return { ...unlimited(caller), headers: {}, end: () => undefined };
    const { hash } = caller;
    const lease = crypto.randomUUID();
    const answer = await this.#ask<AdmissionAnswer>(hash, 'admit', (object) => object.admit(lease, tokens));
    if (answer === undefined) {
      // It may have arrived, and be counted.
      waitUntil(this.#ask(hash, 'settle', (object) => object.settle(lease, 0)));
      return { ...this.#uncounted(hash), headers: {}, end: () => undefined };
    }
    switch (answer.kind) {
      case 'unknown':
      case 'revoked':
      case 'expired':
        throw this.#noKey(hash, answer.kind);
      case 'limited':
        throw limitReached(answer, tokens);
      case 'admitted':
        this.#trust(hash, answer.key);
        return {
          ...guest(answer.key, answer.standing),
          headers: limitHeaders(answer.standing),
          end: answer.isLeased ? this.#hold(hash, lease, waitUntil) : () => undefined,
        };
      default:
        throw answer satisfies never;
    }
  }

  /** Renews a lease until it is told the answer's end. */
  #hold(hash: string, lease: string, waitUntil: WaitUntil): (tokens: number) => void {
    const renew = () => waitUntil(this.#ask(hash, 'renew', (object) => object.renew(lease)));
    const timer = setInterval(renew, RENEW_MS);
    let hasEnded = false;
    return (tokens) => {
      if (hasEnded) return;
      hasEnded = true;
      clearInterval(timer);
      waitUntil(this.#ask(hash, 'settle', (object) => object.settle(lease, tokens)));
    };
  }

  /** One hop, twice where the first is known not to have arrived. Undefined, and logged, where nobody answers. */
  async #ask<T>(hash: string, what: string, call: (object: KeyObject) => Promise<T>): Promise<T | undefined> {
    const hop = async () => withTimeout(call(this.#options.key(hash)), HOP_TIMEOUT_MS, 'no answer');
    try {
      return await hop().catch((error: unknown) => {
        // As Cloudflare marks errors of Durable Objects that another try may mend.
        const { retryable, overloaded } = error as { retryable?: boolean; overloaded?: boolean };
        if (retryable === true && overloaded !== true) return hop();
        throw error;
      });
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      this.#options.log('key_unreachable', { key: hash.slice(0, 12), what, reason });
      return undefined;
    }
  }

  /** @throws ApiError (503) */
  #uncounted(hash: string): Guest {
    const trusted = this.#trusted.get(hash);
    const { whenUnreachable, now, log } = this.#options;
    if (whenUnreachable === 'refuse' || trusted === undefined || now() - trusted.at > TRUSTED_MS) {
      throw new ApiError('server_error', 'key_unreachable', 'this API key can’t be looked up right now; try again', {
        status: 503,
        retryAfterSeconds: 1,
      });
    }
    log('key_uncounted', { key: trusted.key.id });
    return guest(trusted.key, {});
  }

  #trust(hash: string, key: KnownKey): void {
    if (this.#options.whenUnreachable === 'refuse') return;
    this.#trusted.delete(hash);
    this.#trusted.set(hash, { key, at: this.#options.now() });
    const [oldest] = this.#trusted.keys();
    if (this.#trusted.size > MAX_TRUSTED && oldest !== undefined) this.#trusted.delete(oldest);
  }

  #noKey(hash: string, kind: 'unknown' | 'revoked' | 'expired'): ApiError {
    this.#trusted.delete(hash);
    const message = kind === 'unknown' ? 'is not known here' : kind === 'revoked' ? 'has been revoked' : 'has expired';
    return new ApiError('authentication_error', 'invalid_api_key', `this API key ${message}`);
  }
}

function unlimited(caller: Exclude<Caller, { kind: 'managed' }>): Guest {
  const tenant = caller.kind === 'configured' ? caller.tenant : undefined;
  return { tenant, keyId: undefined, models: ALL_MODELS, standing: {} };
}

function guest({ id, tenant, models }: KnownKey, standing: Standing): Guest {
  return { tenant, keyId: id, models, standing };
}
