/**
 * Content digests: how experts, bases and objects are identified everywhere (caches, KV blocks, logs), never by name.
 */
import { sha256 as sha256Now } from '@noble/hashes/sha2.js';
import { z } from 'zod';

/** A sha256 in lower-case hex, 64 characters. */
export type Digest = string & { readonly __digest: 'sha256' };

export const digestSchema = z
  .string()
  .regex(/^[0-9a-f]{64}$/, 'expected a sha256 digest: 64 lower-case hex characters')
  .transform((text) => text as Digest);

/** More than that Web Crypto hashes sooner, for all that a call of it costs, with the turn that its promise takes. */
const SHORT_BYTES = 4_096;

/** Hex sha256 of `bytes`; of what is long by Web Crypto (Node and workerd alike). */
export async function sha256(bytes: Uint8Array): Promise<Digest> {
  if (bytes.length <= SHORT_BYTES) return toHex(sha256Now(bytes)) as Digest;
  return toHex(new Uint8Array(await crypto.subtle.digest('SHA-256', bytes as Uint8Array<ArrayBuffer>))) as Digest;
}

const HEX = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, '0'));

export function toHex(bytes: Uint8Array): string {
  let text = '';
  for (let i = 0; i < bytes.length; i++) text += HEX[bytes[i] ?? 0];
  return text;
}

/** One tensor's line in a base's identity. */
export interface TensorIdentity {
  readonly name: string;
  readonly dtype: string;
  readonly shape: readonly number[];
  /** sha256 of the tensor's bytes. */
  readonly digest: Digest;
}

/**
 * A base's digest: sha256 over its tensors sorted by name (code units), one JSON line `[name, dtype, shape, digest]` each. It is the same for a
 * checkpoint in one file or in shards, whatever the order of tensors in them.
 */
export async function baseDigest(tensors: readonly TensorIdentity[]): Promise<Digest> {
  const sorted = [...tensors].sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0));
  const lines = sorted.map((t) => `${JSON.stringify([t.name, t.dtype, t.shape, t.digest])}\n`);
  return sha256(new TextEncoder().encode(lines.join('')));
}
