import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { readCheckpointAhead } from '@signpost/engine/ahead';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { likelyBase } from './likely-base.ts';
import { WHOLE_FILE } from './whole-file.ts';

let cache: string;
beforeEach(async () => {
  cache = await mkdtemp(join(tmpdir(), 'signpost-likely-'));
});
afterEach(() => rm(cache, { recursive: true }));

describe('the base that a region will load', () => {
  it.each([
    [['--base', '/a'], {}, '/a'],
    [['--base=/a', '--store', 'x'], { SIGNPOST_BASE: '/b' }, '/a'],
    [['--store', 'x'], { SIGNPOST_BASE: '/b' }, '/b'],
    [['--base'], {}, undefined],
    [['--help'], {}, undefined],
    [['--base', 'store:'], {}, undefined],
  ])('is read from %j and %j', (args, env, want) => {
    expect(likelyBase(args, env)).toBe(want);
  });

  it('is the one that the cache has whole', async () => {
    const env = { SIGNPOST_BASE: 'store:demo', SIGNPOST_BASE_CACHE: cache };
    expect(likelyBase([], env)).toBeUndefined();
    const [first, second] = ['a', 'b'].map((digit) => join(cache, digit.repeat(64))) as [string, string];
    for (const dir of [first, second]) await mkdir(dir);
    await writeFile(join(second, WHOLE_FILE), '{}');
    expect(likelyBase([], env)).toBe(second);
    expect(likelyBase(['--base-cache', join(cache, 'none')], env)).toBeUndefined();
    await writeFile(join(first, WHOLE_FILE), '{}');
    expect(likelyBase([], env)).toBeUndefined();
  });
});

it('a folder that is none, or holds what is no file, is for others to say', async () => {
  await mkdir(join(cache, 'folder.safetensors'));
  for (const dir of [cache, join(cache, 'none')]) expect(() => readCheckpointAhead(dir)).not.toThrow();
});
