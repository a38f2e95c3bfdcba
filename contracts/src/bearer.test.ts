import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { bearerHash, equalInConstantTime, hashKey } from './bearer.ts';

describe('comparison', () => {
  it('in constant time agrees with ===', () => {
    const short = fc.string({ maxLength: 4 });
    fc.assert(fc.property(short, short, (a, b) => equalInConstantTime(a, b) === (a === b)));
    fc.assert(fc.property(fc.string(), (a) => equalInConstantTime(a, a) && !equalInConstantTime(a, `${a}\0`)));
  });
});

describe('a bearer header', () => {
  it.each(['Bearer key', 'bearer   key', 'BEARER key'])('%s carries its key', async (header) => {
    expect(await bearerHash(header)).toBe(await hashKey('key'));
  });

  it.each(['', 'key', 'Bearer', 'Bearer ', 'Bearer a b', 'Basic key', 'xBearer key'])(
    '"%s" is none',
    async (header) => {
      expect(await bearerHash(header)).toBeUndefined();
    },
  );
});
