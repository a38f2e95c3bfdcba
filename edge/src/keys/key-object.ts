/**
 * The Durable Object of one managed key, named by the sha256 of its text: its record and its counters, so that one hop tells whether a key is good and whether
 * the request fits, exactly, and a revocation holds from the next request on.
 */
import { DurableObject } from 'cloudflare:workers';
import type { AdmissionAnswer, KeyLook } from './admission.ts';
import { Meter } from './meter.ts';
import type { KeyRecord } from './record.ts';

const RECORD = 'record';
/** Before what a meter keeps. */
const METER = 'meter:';

export class ApiKey extends DurableObject {
  #record = this.ctx.storage.kv.get<KeyRecord>(RECORD);
  #made: Meter | undefined;

  create(record: KeyRecord): void {
    if (this.#record !== undefined) throw new Error(`key ${record.id} exists`);
    this.#keep(record);
  }

  /** @returns false where there is no such key. The first revocation stands. */
  revoke(at: number, by: string): boolean {
    const record = this.#record;
    if (record === undefined) return false;
    if (record.revokedAt === undefined) this.#keep({ ...record, revokedAt: at, revokedBy: by });
    return true;
  }

  admit(lease: string, tokens: number): AdmissionAnswer {
    const record = this.#record;
    const now = Date.now();
    const refused = refusalOf(record, now);
    if (record === undefined || refused !== undefined) return { kind: refused ?? 'unknown' };
    const { id, tenant, models } = record;
    return { ...this.#meter(record).admit(lease, tokens, now), key: { id, tenant, models } };
  }

  /** How the key stands, without using it. */
  look(): KeyLook {
    const record = this.#record;
    const now = Date.now();
    const refused = refusalOf(record, now);
    if (record === undefined || refused !== undefined) return { kind: refused ?? 'unknown' };
    const { id, tenant, models } = record;
    return { kind: 'good', key: { id, tenant, models }, standing: this.#meter(record).standing(now) };
  }

  renew(lease: string): void {
    if (this.#record !== undefined) this.#meter(this.#record).renew(lease, Date.now());
  }

  settle(lease: string, tokens: number): void {
    if (this.#record !== undefined) this.#meter(this.#record).settle(lease, tokens, Date.now());
  }

  #keep(record: KeyRecord): void {
    this.ctx.storage.kv.put(RECORD, record);
    this.#record = record;
  }

  /** Counted in memory and written as it happens, but not waited for: a machine that dies takes the last milliseconds' counts with it. */
  #meter({ limits }: KeyRecord): Meter {
    const { storage } = this.ctx;
    this.#made ??= new Meter(limits, {
      list: () =>
        [...storage.kv.list({ prefix: METER })].map(([key, value]) => [key.slice(METER.length), value] as const),
      put: (key, value) => void storage.put(METER + key, value, { allowUnconfirmed: true }),
      delete: (key) => void storage.delete(METER + key, { allowUnconfirmed: true }),
    });
    return this.#made;
  }
}

function refusalOf(record: KeyRecord | undefined, now: number): 'unknown' | 'revoked' | 'expired' | undefined {
  if (record === undefined) return 'unknown';
  if (record.revokedAt !== undefined) return 'revoked';
  return record.expiresAt !== undefined && record.expiresAt <= now ? 'expired' : undefined;
}
