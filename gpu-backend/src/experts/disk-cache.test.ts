import { randomBytes } from 'node:crypto';
import { mkdir, mkdtemp, readdir, readFile, rm, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Digest, type ExpertVersion, sha256 } from '@signpost/contracts';
import { ChunkHasher } from '@signpost/store';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { DiskCache } from './disk-cache.ts';

let dir: string;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'signpost-disk-'));
});
afterEach(() => rm(dir, { recursive: true }));

async function expert(bytes: number): Promise<{ readonly version: ExpertVersion; readonly data: Uint8Array }> {
  const data = new Uint8Array(randomBytes(bytes));
  const hasher = new ChunkHasher(100);
  const stream = async function* () {
    yield data;
  };
  for await (const _ of hasher.through(stream()));
  const version = {
    digest: await sha256(data),
    base: '0'.repeat(64) as Digest,
    key: 'experts/x',
    bytes,
    method: 'sign',
    chunks: { bytes: 100, sha256: hasher.digests() },
    published: '2026-01-01T00:00:00Z',
  };
  return { version, data };
}

const whole = (bytes: Uint8Array) => () => ({ bytes, release: () => undefined });

async function readBack(cache: DiskCache, version: ExpertVersion): Promise<Uint8Array | undefined> {
  const bytes = new Uint8Array(version.bytes);
  return (await cache.read(version, { onChunk: (data, start) => bytes.set(data, start) })) ? bytes : undefined;
}

describe('the disk cache', () => {
  it('has after a restart what was written before, and nothing half-written', async () => {
    const { version, data } = await expert(1_000);
    const before = await DiskCache.open(dir, 10_000);
    expect(await readBack(before, version)).toBeUndefined();
    await before.write(version, whole(data));
    await writeFile(join(dir, `${version.digest}.delta.safetensors.${crypto.randomUUID()}.tmp`), 'half');
    const after = await DiskCache.open(dir, 10_000);
    expect(await readBack(after, version)).toEqual(data);
    expect(await readdir(dir)).toHaveLength(1);
  });

  it('hands out nothing that was altered on the disk, and drops it', async () => {
    const { version, data } = await expert(1_000);
    const cache = await DiskCache.open(dir, 10_000);
    await cache.write(version, whole(data));
    const [name = ''] = await readdir(dir);
    const bytes = await readFile(join(dir, name));
    bytes.writeUInt8((bytes.at(550) ?? 0) ^ 1, 550);
    await writeFile(join(dir, name), bytes);
    const starts: number[] = [];
    expect(await cache.read(version, { onChunk: (_, start) => void starts.push(start) })).toBe(false);
    expect(starts).toEqual([0, 100, 200, 300, 400]);
    expect(await readdir(dir)).toEqual([]);
  });

  it('that can neither be read nor cleaned fails no read: the file comes from elsewhere, and somebody is told', async () => {
    const { version } = await expert(1_000);
    await mkdir(join(dir, `${version.digest}.delta.safetensors`));
    const problems: string[] = [];
    const cache = await DiskCache.open(dir, 10_000, (problem) => problems.push(problem));
    expect(await readBack(cache, version)).toBeUndefined();
    expect(problems).toEqual([
      expect.stringMatching(/^the disk cache can't use [0-9a-f]{64}\.delta\.safetensors: /),
      expect.stringMatching(/^the disk cache can't drop [0-9a-f]{64}\.delta\.safetensors: /),
    ]);
  });

  it('stays within its budget, and drops what was used longest ago', async () => {
    const cache = await DiskCache.open(dir, 2_500);
    const experts = await Promise.all([1, 2, 3].map(() => expert(1_000)));
    const [first, second, third] = experts.map(({ version }) => version);
    if (first === undefined || second === undefined || third === undefined) throw new Error('three were made');
    for (const [i, { version, data }] of experts.slice(0, 2).entries()) {
      await cache.write(version, whole(data));
      const written = new Date(Date.now() - 10_000 + i);
      await utimes(join(dir, `${version.digest}.delta.safetensors`), written, written);
    }
    await readBack(cache, first);
    await cache.write(third, whole(experts[2]?.data ?? new Uint8Array()));
    const kept = await Promise.all([first, second, third].map(async (v) => (await readBack(cache, v)) !== undefined));
    expect(kept).toEqual([true, false, true]);
    const huge = await expert(3_000);
    await cache.write(huge.version, whole(huge.data));
    expect(await readdir(dir)).toHaveLength(2);
  });

  it('knows what it holds, also after a restart, and forgets what it is told to', async () => {
    const { version, data } = await expert(1_000);
    const cache = await DiskCache.open(dir, 2_000);
    expect(await readBack(cache, version)).toBeUndefined();
    await cache.write(version, whole(data));
    await readBack(cache, version);
    const held = { bytes: 1_000, files: [version.digest] };
    expect(cache.state).toEqual({ ...held, lookups: 2, hits: 1, evictions: 0 });
    const after = await DiskCache.open(dir, 2_000);
    expect(after.state).toMatchObject(held);
    expect([await after.drop(version.digest), await after.drop(version.digest)]).toEqual([true, false]);
    expect(after.state).toMatchObject({ bytes: 0, files: [] });
    expect(await readdir(dir)).toEqual([]);
    for (const { version: one, data: bytes } of [await expert(1_500), await expert(1_500)])
      await after.write(one, whole(bytes));
    expect(after.state).toMatchObject({ bytes: 1_500, evictions: 1 });
  });
});
