import { describe, expect, it } from 'vitest';
import { type Catalogue, catalogueSchema, chunkBytesFor, chunkCount, MAX_CHUNKS, resolveExpert } from './catalogue.ts';
import type { Digest } from './digest.ts';

const [OLD, NEW, BASE] = ['1', '2', 'b'].map((digit) => digit.repeat(64) as Digest) as [Digest, Digest, Digest];
const version = (digest: Digest) => ({
  digest,
  base: BASE,
  key: `experts/${digest}`,
  bytes: 1,
  method: 'row',
  published: '2026-01-01T00:00:00Z',
});
const catalogue: Catalogue = {
  format: 1,
  revision: 1,
  bases: { [BASE]: { name: 'demo' } },
  experts: {
    math: {
      versions: [version(OLD), version(NEW)],
      channels: {
        stable: [
          { digest: OLD, weight: 9 },
          { digest: NEW, weight: 1 },
        ],
        next: [{ digest: NEW, weight: 1 }],
      },
    },
  },
};

describe('the catalogue', () => {
  it('resolves names, channels and beginnings of digests', () => {
    expect(resolveExpert(catalogue, 'math', undefined).digest).toBe(OLD);
    expect(resolveExpert(catalogue, 'math', 'next').digest).toBe(NEW);
    expect(resolveExpert(catalogue, 'math', NEW.slice(0, 8)).digest).toBe(NEW);
  });

  it('takes as many chunk hashes as the file has chunks, and no more than are bounded', () => {
    const parse = (bytes: number, chunks: { bytes: number; sha256: string } | undefined) =>
      catalogueSchema.safeParse({
        ...catalogue,
        experts: { math: { versions: [{ ...version(OLD), bytes, chunks }], channels: {} } },
      });
    const hashes = (count: number) => Buffer.alloc(32 * count).toString('base64');
    expect(parse(1_000, undefined).success).toBe(true);
    expect(parse(1_000, { bytes: 100, sha256: hashes(10) }).success).toBe(true);
    expect(parse(1_001, { bytes: 100, sha256: hashes(11) }).success).toBe(true);
    for (const [count, sha256] of [
      [10, hashes(11)],
      [10, hashes(9)],
      [10, '!'.repeat(hashes(10).length)],
    ] as const)
      expect(parse(100 * count, { bytes: 100, sha256 }).success).toBe(false);
    const many = parse(257, { bytes: 1, sha256: hashes(257) });
    expect(many.error?.message).toContain('257 chunks, more than 256');
  });

  it('hashes files of any size in few chunks of at least 256 KiB', () => {
    for (const bytes of [1, 2 ** 20, 2 ** 28, 2 ** 28 + 1, 5e9, 2 ** 45]) {
      const size = chunkBytesFor(bytes);
      expect(chunkCount(bytes, size)).toBeLessThanOrEqual(MAX_CHUNKS);
      expect(size).toBeGreaterThanOrEqual(2 ** 18);
      expect(size === 2 ** 18 || chunkCount(bytes, size / 2) > MAX_CHUNKS).toBe(true);
    }
  });

  it('splits a channel by its weights', () => {
    const points = Array.from({ length: 100 }, (_, i) => resolveExpert(catalogue, 'math', 'stable', i / 100).digest);
    expect(points.filter((digest) => digest === NEW)).toHaveLength(10);
  });

  it('says what is known when something is not', () => {
    expect(() => resolveExpert(catalogue, 'law', undefined)).toThrow('there is no expert "law"; known: math');
    expect(() => resolveExpert(catalogue, 'constructor', undefined)).toThrow('there is no expert "constructor"');
    expect(() => resolveExpert(catalogue, 'math', 'beta')).toThrow('channels: stable, next');
    expect(() => resolveExpert(catalogue, 'math', '33333333')).toThrow('neither a channel nor a digest');
  });

  it('refuses a channel that points nowhere, unknown fields and reserved names', () => {
    const check = (value: unknown) =>
      catalogueSchema
        .safeParse(value)
        .error?.issues.map(({ message }) => message)
        .join();
    const { math } = catalogue.experts;
    expect(check(catalogue)).toBeUndefined();
    expect(
      check({ ...catalogue, experts: { math: { ...math, channels: { stable: [{ digest: BASE, weight: 1 }] } } } }),
    ).toMatch(/no version of math/);
    expect(check({ ...catalogue, extra: 1 })).toMatch(/extra/);
    expect(check({ ...catalogue, experts: { base: math } })).toBeDefined();
  });
});
