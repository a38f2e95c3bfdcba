import { createHash, createHmac } from 'node:crypto';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { hmacKey, hmacNow, sha256Now } from './sha256.ts';

/** Past two blocks, so that each way to end a block is met. */
const bytes = fc.uint8Array({ maxLength: 200 });
const hex = (digest: Uint8Array) => Buffer.from(digest).toString('hex');

it('hashes as OpenSSL does, whatever the length', () => {
  for (let length = 0; length <= 200; length++) {
    const all = Uint8Array.from({ length }, (_, i) => 7 * i + length);
    expect(hex(sha256Now(all))).toBe(createHash('sha256').update(all).digest('hex'));
  }
  fc.assert(fc.property(bytes, (all) => hex(sha256Now(all)) === createHash('sha256').update(all).digest('hex')));
});

it('signs as OpenSSL does, with keys that are shorter and longer than a block', () => {
  fc.assert(
    fc.property(bytes, bytes, (key, all) => {
      expect(hex(hmacNow(hmacKey(key), all))).toBe(createHmac('sha256', key).update(all).digest('hex'));
    }),
  );
});
