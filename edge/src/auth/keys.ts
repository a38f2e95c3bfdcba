/**
 * API keys: who asks.
 *
 * Keys are kept as sha256 hashes only; a presented key is hashed and compared with every one in constant time.
 */
import { ApiError, bearerHash, equalInConstantTime } from '@signpost/contracts';
import type { Settings } from '../settings/settings.ts';

/**
 * The tenant behind a request's `Authorization` header; undefined for an anonymous one where those are served.
 *
 * @throws ApiError (401) for a missing, malformed or unknown key.
 */
export async function authenticate(
  authorization: string | null,
  { tenants, anonymous }: Pick<Settings, 'tenants' | 'anonymous'>,
): Promise<string | undefined> {
  if (authorization === null) {
    if (anonymous === 'allowed') return undefined;
    throw refuse('missing_api_key', 'no API key; send it as "Authorization: Bearer <key>"');
  }
  const hash = await bearerHash(authorization);
  if (hash === undefined) throw refuse('invalid_api_key', 'the Authorization header is not of the form "Bearer <key>"');
  const tenant = findTenant(tenants, hash);
  if (tenant !== undefined) return tenant;
  // Official clients insist on sending some key, so where everybody is served an unknown one is nobody's.
  if (anonymous === 'allowed') return undefined;
  throw refuse('invalid_api_key', 'this API key is not known here');
}

/** Looks at every entry, whether or not one matched: the time taken tells nothing about the keys. */
function findTenant(tenants: ReadonlyMap<string, string>, digest: string): string | undefined {
  let found: string | undefined;
  for (const [known, tenant] of tenants) if (equalInConstantTime(known, digest)) found = tenant;
  return found;
}

function refuse(code: string, message: string): ApiError {
  return new ApiError('authentication_error', code, message);
}
