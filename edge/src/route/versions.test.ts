import { type Catalogue, catalogueSchema, type Digest } from '@signpost/contracts';
import { describe, expect, it } from 'vitest';
import { chooseVersions } from './versions.ts';

const digest = (digit: string) => digit.repeat(64) as Digest;

/** A catalogue of `math` with a channel of these weights, by the digit of their digests. */
function catalogueOf(stable: Record<string, number>): Catalogue {
  const base = digest('0');
  return catalogueSchema.parse({
    format: 1,
    bases: { [base]: { name: 'demo' } },
    experts: {
      math: {
        versions: ['a', 'b', 'c'].map((digit) => ({
          digest: digest(digit),
          base,
          key: `experts/${digit}`,
          bytes: 1_000,
          method: 'sign',
          published: '2026-01-01T00:00:00.000Z',
        })),
        channels: {
          stable: Object.entries(stable).map(([digit, weight]) => ({ digest: digest(digit), weight })),
          next: [{ digest: digest('c'), weight: 1 }],
        },
      },
    },
  });
}

const of = (tenant: string | undefined, headers: Record<string, string> = {}, body = {}) => ({
  tenant,
  headers: new Headers(headers),
  body,
});
const tenants = Array.from({ length: 4_000 }, (_, i) => `tenant-${i}`);
const versionOf = (tenant: string, catalogue: Catalogue) =>
  chooseVersions('math', 'tenant', of(tenant), catalogue).versions?.[0]?.version.digest[0];

describe('versions of a channel', () => {
  it('fall to tenants in proportion to their weights, and always the same to the same one', () => {
    const catalogue = catalogueOf({ a: 9, b: 1 });
    const first = tenants.map((tenant) => versionOf(tenant, catalogue));
    // Three standard deviations of a binomial are 57.
    expect(Math.abs(first.filter((version) => version === 'b').length - 400)).toBeLessThan(90);
    expect(tenants.map((tenant) => versionOf(tenant, catalogue))).toEqual(first);
  });

  it('stay with who has them while their share grows, in whatever order the catalogue lists them', () => {
    const tenth = tenants.filter((tenant) => versionOf(tenant, catalogueOf({ a: 0.9, b: 0.1 })) === 'b');
    expect(tenth.every((tenant) => versionOf(tenant, catalogueOf({ b: 0.5, a: 0.5 })) === 'b')).toBe(true);
    // A third version takes from both, and moves nobody between them.
    const before = catalogueOf({ a: 0.5, b: 0.5 });
    const after = catalogueOf({ a: 0.4, b: 0.4, c: 0.2 });
    const moved = tenants.filter((tenant) => versionOf(tenant, before) !== versionOf(tenant, after));
    expect(Math.abs(moved.length - 800)).toBeLessThan(120);
    expect(moved.every((tenant) => versionOf(tenant, after) === 'c')).toBe(true);
  });

  it('are asked for by digest, weights and all, where there was a choice, and by name where there was none', () => {
    const chosen = chooseVersions('math:0.5', 'tenant', of('acme'), catalogueOf({ b: 1, a: 1e-12 }));
    expect(chosen.name).toBe(`math@${digest('b')}:0.5`);
    expect(chosen.versions).toMatchObject([{ selector: 'stable', weight: 0.5, share: 1 / (1 + 1e-12), by: 'tenant' }]);
    const only = chooseVersions('math@next', 'tenant', of('acme'), catalogueOf({ a: 1, b: 1 }));
    expect([only.name, only.versions?.[0]?.by, only.versions?.[0]?.version.digest]).toEqual([
      'math@next',
      'only',
      digest('c'),
    ]);
    expect(chooseVersions('base', 'tenant', of('acme'), catalogueOf({ a: 1 }))).toEqual({ name: 'base', versions: [] });
  });

  it('stick to a header or a field of the body where those are asked for, and are drawn for who has neither', () => {
    const catalogue = catalogueOf({ a: 1, b: 1 });
    for (const [by, facts] of [
      ['header x-user', (user: string) => of('acme', { 'x-user': user })],
      ['body metadata.conversation', (user: string) => of('acme', {}, { metadata: { conversation: user } })],
    ] as const) {
      const pick = (user: string) => chooseVersions('math', by, facts(user), catalogue).versions?.[0];
      const picked = new Set(tenants.slice(0, 100).map((user) => pick(user)?.version.digest));
      expect(picked.size, by).toBe(2);
      expect(new Set(Array.from({ length: 20 }, () => pick('anna')?.version.digest)).size).toBe(1);
      expect(pick('anna')?.by).toBe(by);
    }
    const drawn = Array.from({ length: 100 }, () => chooseVersions('math', 'header x-user', of('acme'), catalogue));
    expect(new Set(drawn.map(({ name }) => name)).size).toBe(2);
    expect(drawn[0]?.versions?.[0]?.by).toBe('drawn');
  });

  it('are left to the region where the catalogue is not known, or has no such expert', () => {
    expect(chooseVersions('math', 'tenant', of('acme'), undefined)).toEqual({ name: 'math', versions: undefined });
    const unknown = chooseVersions('math+law', 'tenant', of('acme'), catalogueOf({ a: 1, b: 1 }));
    expect(unknown).toEqual({ name: 'math+law', versions: undefined });
  });
});
