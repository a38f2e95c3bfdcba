/**
 * What passes between those who serve requests and the object that counts for a key.
 */
import type { Standing, Verdict } from './meter.ts';
import type { KeyRecord } from './record.ts';

/** What serving a request takes of a record. */
export type KnownKey = Pick<KeyRecord, 'id' | 'tenant' | 'models'>;

interface NoKey {
  readonly kind: 'unknown' | 'revoked' | 'expired';
}

export type AdmissionAnswer = NoKey | (Verdict & { readonly key: KnownKey });
export type KeyLook = NoKey | { readonly kind: 'good'; readonly key: KnownKey; readonly standing: Standing };

/** One key's object, wherever it is. Every call may fail. */
export interface KeyObject {
  admit(lease: string, tokens: number): Promise<AdmissionAnswer>;
  look(): Promise<KeyLook>;
  renew(lease: string): Promise<void>;
  settle(lease: string, tokens: number): Promise<void>;
}
