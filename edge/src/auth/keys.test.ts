import { ApiError, sha256 } from '@signpost/contracts';
import { describe, expect, it } from 'vitest';
import { newKeyText } from '../keys/key-text.ts';
import { identify, identifyAdministrator } from './keys.ts';

const KEY = 'sk-0123456789';
const ADMIN = 'admin-0123456789';
const hash = (key: string) => sha256(new TextEncoder().encode(key));

async function settings(anonymous: 'allowed' | 'refused') {
  return {
    tenants: new Map<string, string>([
      [await hash(KEY), 'acme'],
      [await hash('other'), 'globex'],
    ]),
    administrators: new Map([[await hash(ADMIN), 'ada']]),
    anonymous,
  };
}

describe('who asks', () => {
  it.each([`Bearer ${KEY}`, `bearer   ${KEY}`])('finds the tenant of a known key: %s', async (header) => {
    expect(await identify(header, await settings('refused'))).toEqual({ kind: 'configured', tenant: 'acme' });
    expect(await identify(header, await settings('allowed'))).toEqual({ kind: 'configured', tenant: 'acme' });
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
    const refusal = await identify(sent, await settings('refused')).catch((error: unknown) => error);
    expect(refusal).toBeInstanceOf(ApiError);
    expect(refusal).toMatchObject({ status: 401, code });
    expect(String((refusal as Error).message)).not.toContain(KEY);
  });

  it('serves an unknown key where everybody is served, as nobody’s', async () => {
    expect(await identify('Bearer whatever', await settings('allowed'))).toEqual({ kind: 'anonymous' });
    expect(await identify(null, await settings('allowed'))).toEqual({ kind: 'anonymous' });
  });

  it('leaves a managed key to its object, and refuses garbage that looks like one', async () => {
    const key = newKeyText();
    for (const anonymous of ['allowed', 'refused'] as const)
      expect(await identify(`Bearer ${key}`, await settings(anonymous))).toEqual({
        kind: 'managed',
        hash: await hash(key),
      });
    const garbled = identify(`Bearer ${key.slice(0, -1)}${key.endsWith('0') ? '1' : '0'}`, await settings('refused'));
    await expect(garbled).rejects.toMatchObject({ status: 401, code: 'invalid_api_key' });
  });

  it('refuses an administrator’s key, even where everybody is served', async () => {
    for (const anonymous of ['allowed', 'refused'] as const)
      await expect(identify(`Bearer ${ADMIN}`, await settings(anonymous))).rejects.toThrow(/administrator/);
  });
});

describe('administrators', () => {
  it('are known by their own keys alone', async () => {
    const { administrators } = await settings('refused');
    expect(await identifyAdministrator(`Bearer ${ADMIN}`, administrators)).toBe('ada');
    for (const header of [null, '', ADMIN, `Bearer ${KEY}`, `Bearer ${newKeyText()}`, `Bearer ${await hash(ADMIN)}`])
      await expect(identifyAdministrator(header, administrators)).rejects.toMatchObject({
        status: 401,
        code: 'invalid_admin_key',
      });
  });
});
