/**
 * Keys that are presented as `Authorization: Bearer KEY`. They are kept as sha256 hashes, and compared as such in constant time.
 */
import { type Digest, sha256 } from './digest.ts';

const utf8 = new TextEncoder();

/** The key itself; undefined for a header of another form (RFC 6750, section 2.1; the scheme in any case, RFC 9110, section 11.1). */
export function bearerKey(authorization: string): string | undefined {
  return /^Bearer +(?<key>\S+)$/i.exec(authorization)?.groups?.key;
}

/** The key's hash; undefined for a header of another form. */
export async function bearerHash(authorization: string): Promise<Digest | undefined> {
  const key = bearerKey(authorization);
  return key === undefined ? undefined : hashKey(key);
}

export function hashKey(key: string): Promise<Digest> {
  return sha256(utf8.encode(key));
}

/** Whether a header presents the key with this hash. */
export async function presentsKey(authorization: string | undefined, hash: Digest): Promise<boolean> {
  const given = await bearerHash(authorization ?? '');
  return given !== undefined && equalInConstantTime(given, hash);
}

/** Whether two strings are the same, in time that depends on their lengths alone. */
export function equalInConstantTime(a: string, b: string): boolean {
  let difference = a.length ^ b.length;
  const length = Math.max(a.length, b.length);
  for (let i = 0; i < length; i++) difference |= (a.charCodeAt(i) || 0) ^ (b.charCodeAt(i) || 0);
  return difference === 0;
}
