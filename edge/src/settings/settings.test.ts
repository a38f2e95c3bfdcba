import { describe, expect, it } from 'vitest';
import { readSettings, type Variables } from './settings.ts';

const REGIONS = '[{ "name": "local", "url": "http://127.0.0.1:8000" }]';
const hashes = (digit: string) => JSON.stringify({ [digit.repeat(64)]: 'who' });
const read = (variables: Variables) => readSettings({ REGIONS, ...variables });

describe('keys', () => {
  it('may be administrators’ alone: they make the others', () => {
    const settings = read({ ADMIN_KEY_HASHES: hashes('a') });
    expect([...settings.administrators.values(), settings.tenants.size, settings.anonymous]).toEqual([
      'who',
      0,
      'refused',
    ]);
    expect(settings.whenKeyUnreachable).toBe('refuse');
  });

  it.each([
    ['nobody’s at all', {}, /ADMIN_KEY_HASHES.*API_KEY_HASHES.*ALLOW_ANONYMOUS/],
    ['both', { ADMIN_KEY_HASHES: hashes('a'), API_KEY_HASHES: hashes('a') }, /both in ADMIN_KEY_HASHES/],
    ['not hashes', { ADMIN_KEY_HASHES: '{"key":"who"}' }, /ADMIN_KEY_HASHES.*sha256/],
    ['not JSON', { ADMIN_KEY_HASHES: 'key' }, /ADMIN_KEY_HASHES is not JSON/],
    [
      'of a kind there is not',
      { API_KEY_HASHES: hashes('a'), KEY_UNREACHABLE: 'maybe' },
      /KEY_UNREACHABLE is "maybe", expected "refuse" or "admit"/,
    ],
  ])('that are %s are said to be wrong', (_, variables, message) => {
    expect(() => read(variables)).toThrow(message);
  });
});
