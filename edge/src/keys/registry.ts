/**
 * Managed keys as an administrator sees them: made, listed, revoked.
 */
import { ApiError, hashKey } from '@signpost/contracts';
import type { KeyObject } from './admission.ts';
import { newKeyText } from './key-text.ts';
import type { Standing } from './meter.ts';
import { type KeyPlace, type KeyRecord, keyId, type NewKey } from './record.ts';

/** One key's object, as its registry uses it. */
export interface ManagedKey extends Pick<KeyObject, 'look'> {
  create(record: KeyRecord): Promise<void>;
  revoke(at: number, by: string): Promise<boolean>;
}

export interface KeyRegistryOptions {
  readonly index: {
    put(record: KeyRecord): Promise<void>;
    find(id: string): Promise<KeyRecord | undefined>;
    list(): Promise<readonly KeyRecord[]>;
  };
  /** @param near where it is to be made, if it isn't there yet. */
  readonly key: (hash: string, near: KeyPlace | undefined) => ManagedKey;
  readonly now: () => number;
}

export class KeyRegistry {
  readonly #options: KeyRegistryOptions;

  constructor(options: KeyRegistryOptions) {
    this.#options = options;
  }

  /** @returns the new key's text, too, which is kept nowhere. @throws ApiError (400) for a key that would have expired. */
  async create(wanted: NewKey, by: string): Promise<{ readonly text: string; readonly record: KeyRecord }> {
    const { index, key, now } = this.#options;
    const expiresAt = wanted.expires_at === undefined ? undefined : Date.parse(wanted.expires_at);
    if (expiresAt !== undefined && expiresAt <= now()) {
      throw new ApiError('invalid_request_error', 'invalid_value', `expires_at: ${wanted.expires_at} is past`, {
        param: 'expires_at',
      });
    }
    const text = newKeyText();
    const hash = await hashKey(text);
    const record: KeyRecord = {
      id: keyId(hash),
      hash,
      name: wanted.name,
      tenant: wanted.tenant,
      models: wanted.models,
      limits: {
        requestsPerMinute: wanted.requests_per_minute,
        tokensPerDay: wanted.tokens_per_day,
        concurrency: wanted.concurrency,
      },
      createdAt: now(),
      createdBy: by,
      expiresAt,
    };
    // In the list first: what is good is never missing from it.
    await index.put(record);
    await key(hash, wanted.near).create(record);
    return { text, record };
  }

  async list(): Promise<readonly KeyRecord[]> {
    return this.#options.index.list();
  }

  /** @returns also how it stands against its limits; undefined where it isn't good any more. @throws ApiError (404) */
  async get(id: string): Promise<{ readonly record: KeyRecord; readonly standing: Standing | undefined }> {
    const record = await this.#find(id);
    const look = await this.#options.key(record.hash, undefined).look();
    return { record, standing: look.kind === 'good' ? look.standing : undefined };
  }

  /** Holds from the next request on. A key that is revoked already stays as it is. @throws ApiError (404) */
  async revoke(id: string, by: string): Promise<KeyRecord> {
    const { index, key, now } = this.#options;
    const record = await this.#find(id);
    if (record.revokedAt !== undefined) return record;
    const revoked = { ...record, revokedAt: now(), revokedBy: by };
    // The key itself first: a list that lags behind does no harm.
    await key(record.hash, undefined).revoke(revoked.revokedAt, by);
    await index.put(revoked);
    return revoked;
  }

  async #find(id: string): Promise<KeyRecord> {
    const record = await this.#options.index.find(id);
    if (record === undefined)
      throw new ApiError('not_found_error', 'unknown_key', `there is no API key with the id "${id.slice(0, 64)}"`);
    return record;
  }
}
