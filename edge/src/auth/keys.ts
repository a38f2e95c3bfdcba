/**
 * API keys: who asks.
 *
 * Keys are kept as sha256 hashes only. A presented key is hashed and compared in constant time with every one that the secrets hold; what is none of them may be
 * a managed key, which its own object knows (`keys/door.ts`).
 */
import { ApiError, bearerKey, type Digest, equalInConstantTime, hashKey } from '@signpost/contracts';
import { isKeyText } from '../keys/key-text.ts';
import type { Settings } from '../settings/settings.ts';

export type Caller =
  | { readonly kind: 'anonymous' }
  /** By a key from API_KEY_HASHES. */
  | { readonly kind: 'configured'; readonly tenant: string }
  /** By what may be a managed key. */
  | { readonly kind: 'managed'; readonly hash: Digest };

/**
 * Who asks, by a request's `Authorization` header.
 *
 * @throws ApiError (401) for a key that is missing, malformed, or can't be one; and for an administrator's.
 */
export async function identify(
  authorization: string | null,
  { tenants, anonymous, administrators }: Pick<Settings, 'tenants' | 'anonymous' | 'administrators'>,
): Promise<Caller> {
  if (authorization === null) {
    if (anonymous === 'allowed') return { kind: 'anonymous' };
    throw refuse('missing_api_key', 'no API key; send it as "Authorization: Bearer <key>"');
  }
  const key = bearerKey(authorization);
  if (key === undefined) throw refuse('invalid_api_key', 'the Authorization header is not of the form "Bearer <key>"');
  const hash = await hashKey(key);
  const tenant = findByHash(tenants, hash);
  if (tenant !== undefined) return { kind: 'configured', tenant };
  if (isKeyText(key)) return { kind: 'managed', hash };
  if (findByHash(administrators, hash) !== undefined)
    throw refuse('invalid_api_key', 'this is an administrator’s key, which asks no models; use an API key');
  // Official clients insist on sending some key, so where everybody is served an unknown one is nobody's.
  if (anonymous === 'allowed') return { kind: 'anonymous' };
  throw refuse('invalid_api_key', 'this API key is not known here');
}

/**
 * The name of the administrator behind a header.
 *
 * @throws ApiError (401) for everybody else, API keys included.
 */
export async function identifyAdministrator(
  authorization: string | null,
  administrators: Settings['administrators'],
): Promise<string> {
  const who = await administratorOf(authorization, administrators);
  if (who === undefined)
    throw refuse('invalid_admin_key', 'this takes a key of ADMIN_KEY_HASHES, as "Authorization: Bearer <key>"');
  return who;
}

/** The same; undefined for everybody else. */
export async function administratorOf(
  authorization: string | null,
  administrators: Settings['administrators'],
): Promise<string | undefined> {
  const key = bearerKey(authorization ?? '');
  return key === undefined ? undefined : findByHash(administrators, await hashKey(key));
}

/** Looks at every entry, whether or not one matched: the time taken tells nothing about the keys. */
function findByHash(names: ReadonlyMap<string, string>, digest: string): string | undefined {
  let found: string | undefined;
  for (const [known, name] of names) if (equalInConstantTime(known, digest)) found = name;
  return found;
}

function refuse(code: string, message: string): ApiError {
  return new ApiError('authentication_error', code, message);
}
