/**
 * What is known of a managed key: whose it is, what it may do, how much of it. Never its text.
 */
import type { Digest } from '@signpost/contracts';
import { z } from 'zod';
import { modelPatternSchema } from './allowed-models.ts';

/** Undefined is without limit. */
export interface Limits {
  /** In any sixty seconds. */
  readonly requestsPerMinute?: number | undefined;
  /** Of prompts and answers, from midnight to midnight UTC. */
  readonly tokensPerDay?: number | undefined;
  /** Answers under way at once. */
  readonly concurrency?: number | undefined;
}

export interface KeyRecord {
  /** First characters of the text's sha256: names it in lists and logs. */
  readonly id: string;
  readonly hash: Digest;
  readonly name: string;
  readonly tenant: string;
  /** See `allowed-models.ts`. */
  readonly models: readonly string[];
  readonly limits: Limits;
  /** Milliseconds since the epoch, as all times here. */
  readonly createdAt: number;
  readonly createdBy: string;
  readonly expiresAt?: number | undefined;
  readonly revokedAt?: number | undefined;
  readonly revokedBy?: string | undefined;
}

export function keyId(hash: Digest): string {
  return hash.slice(0, 12);
}

/** Where Cloudflare places the object that counts for a key; near whoever creates it where it isn't said. */
const KEY_PLACES = ['wnam', 'enam', 'sam', 'weur', 'eeur', 'apac', 'oc', 'afr', 'me'] as const;
export type KeyPlace = (typeof KEY_PLACES)[number];

const count = z.number().int().min(1).max(1e12);

/** Body of `POST /admin/keys`. */
export const newKeySchema = z.strictObject({
  tenant: z.string().min(1).max(256),
  name: z.string().min(1).max(128).default('unnamed'),
  models: z.array(modelPatternSchema).min(1).max(64).default(['*']),
  requests_per_minute: count.optional(),
  tokens_per_day: count.optional(),
  concurrency: z.number().int().min(1).max(10_000).optional(),
  expires_at: z.iso.datetime({ offset: true }).optional(),
  near: z.enum(KEY_PLACES).optional(),
});
export type NewKey = z.output<typeof newKeySchema>;

/** A record as the admin API tells it. */
export function keyView(record: KeyRecord) {
  return {
    object: 'key',
    id: record.id,
    name: record.name,
    tenant: record.tenant,
    models: record.models,
    requests_per_minute: record.limits.requestsPerMinute ?? null,
    tokens_per_day: record.limits.tokensPerDay ?? null,
    concurrency: record.limits.concurrency ?? null,
    created_at: isoTime(record.createdAt),
    created_by: record.createdBy,
    expires_at: isoTime(record.expiresAt),
    revoked_at: isoTime(record.revokedAt),
    revoked_by: record.revokedBy ?? null,
  } as const;
}
export type KeyView = ReturnType<typeof keyView>;

function isoTime(ms: number | undefined): string | null {
  return ms === undefined ? null : new Date(ms).toISOString();
}
