import { ApiError, sha256 } from '@signpost/contracts';
import { describe, expect, it } from 'vitest';
import { authenticate } from './keys.ts';

const KEY = 'sk-0123456789';
const hash = (key: string) => sha256(new TextEncoder().encode(key));

async function settings(anonymous: 'allowed' | 'refused') {
  return {
    tenants: new Map<string, string>([
      [await hash(KEY), 'acme'],
      [await hash('other'), 'globex'],
    ]),
    anonymous,
  };
}

describe('authenticate', () => {
  it.each([`Bearer ${KEY}`, `bearer   ${KEY}`])('finds the tenant of a known key: %s', async (header) => {
    expect(await authenticate(header, await settings('refused'))).toBe('acme');
    expect(await authenticate(header, await settings('allowed'))).toBe('acme');
  });

  it.each([
    [null, 'missing_api_key'],
    ['', 'invalid_api_key'],
    [KEY, 'invalid_api_key'],
    [`Basic ${KEY}`, 'invalid_api_key'],
    [`Bearer ${KEY} ${KEY}`, 'invalid_api_key'],
    [`Bearer ${KEY}x`, 'invalid_api_key'],
    // A hash is not a key: who reads the configuration can't ask with it.
    ['hash', 'invalid_api_key'],
  ])('refuses %j', async (header, code) => {
    const sent = header === 'hash' ? `Bearer ${await hash(KEY)}` : header;
    const refusal = await authenticate(sent, await settings('refused')).catch((error: unknown) => error);
    expect(refusal).toBeInstanceOf(ApiError);
    expect(refusal).toMatchObject({ status: 401, code });
    expect(String((refusal as Error).message)).not.toContain(KEY);
  });

  it('serves an unknown key where everybody is served, as nobody’s', async () => {
    expect(await authenticate('Bearer whatever', await settings('allowed'))).toBeUndefined();
    expect(await authenticate(null, await settings('allowed'))).toBeUndefined();
  });
});
