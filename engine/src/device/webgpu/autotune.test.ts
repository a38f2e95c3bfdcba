/**
 * Measured sizes: of what is possible, kept, and read again.
 */
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { tunedShapes } from './autotune.ts';
import { openTestGpu } from './testing.ts';

const gpu = await openTestGpu();
let dir: string;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'signpost-tuning-'));
});
afterAll(async () => {
  gpu?.close();
  await rm(dir, { recursive: true, force: true });
});

describe.skipIf(gpu === undefined)('tuning', () => {
  it('measures once an adapter, and again what a spoilt file has lost', async () => {
    if (gpu === undefined) return;
    const cache = join(dir, 'below', 'tuning.json');
    const shapes = await tunedShapes(gpu, { formats: ['bf16'], cache });
    expect(Object.keys(shapes).toSorted()).toEqual(['bf16 1', 'bf16 8']);
    const kept = JSON.parse(await readFile(cache, 'utf8')) as Record<string, unknown>;
    expect(kept).toEqual({ [gpu.identity.key]: shapes });
    // Nothing half-written stays.
    expect(await readdir(join(dir, 'below'))).toEqual(['tuning.json']);
    const other = { 'bf16 1': { workgroup: 8, passes: 2 }, 'bf16 8': { workgroup: 16, passes: 1 } };
    await writeFile(cache, JSON.stringify({ [gpu.identity.key]: other, 'another/adapter': shapes }));
    expect(await tunedShapes(gpu, { formats: ['bf16'], cache })).toEqual(other);
    await writeFile(cache, '{"half": ');
    const again = await tunedShapes(gpu, { formats: ['bf16'], cache });
    expect(Object.keys(again).toSorted()).toEqual(['bf16 1', 'bf16 8']);
    expect(JSON.parse(await readFile(cache, 'utf8'))).toEqual({ [gpu.identity.key]: again });
  }, 60_000);
});
