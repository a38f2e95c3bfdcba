import { createHash } from 'node:crypto';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { sha256 } from './digest.ts';

it('is OpenSSL’s SHA-256, of what is short and of what is long', async () => {
  const bytes = fc.nat(9_000).chain((length) => fc.uint8Array({ minLength: length, maxLength: length }));
  await fc.assert(
    fc.asyncProperty(bytes, async (all) => {
      expect(await sha256(all)).toBe(createHash('sha256').update(all).digest('hex'));
    }),
    { numRuns: 50 },
  );
});
