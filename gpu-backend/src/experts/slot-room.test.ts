/**
 * An expert that is larger than a slot of the device.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Checkpoint, Model, openCheckpoint } from '@signpost/engine';
import { openTestGpu } from '@signpost/engine/testing';
import { pack, publish } from '@signpost/packer';
import { type ObjectStore, openStore, type ReadOptions } from '@signpost/store';
import { interceptStore } from '@signpost/store/testing';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Demand } from './demand.ts';
import { storeReader } from './expert-reader.ts';
import { Pager } from './page-in.ts';

const GOLDEN = join(import.meta.dirname, '../../../test/golden/merge');
const CHUNK = 512;

const gpu = await openTestGpu();
let dir: string;
let base: Checkpoint;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'signpost-slot-room-'));
  base = await openCheckpoint(join(GOLDEN, 'base'));
});
afterAll(async () => {
  gpu?.close();
  await rm(dir, { recursive: true });
});

const modelOf = (slotBytes: number) =>
  Model.load(base, {
    device: 'webgpu',
    gpu: { ...(gpu && { shared: gpu }), slotBytes },
    slots: 2,
    kvBlocks: 2,
    blockTokens: 8,
    maxRows: 8,
    maxLogitRows: 8,
  });

function pagerOf(store: ObjectStore, model: Model): Pager {
  return new Pager({
    store: { url: 'store:', read: storeReader(store, CHUNK) },
    model,
    hostCacheBytes: 2 ** 24,
    demand: new Demand(),
    disk: undefined,
    onProblem: (problem) => expect.unreachable(problem),
  });
}

describe.skipIf(gpu === undefined)('an expert larger than a slot', () => {
  it('is refused with what it takes once its header is in, gives its memory back, and fits a slot as large as it was told', async () => {
    const file = join(dir, 'a.safetensors');
    await pack(base, await openCheckpoint(join(GOLDEN, 'a')), { name: 'a', out: file, scale: 'row', planes: 2 });
    const store = openStore(join(dir, 'store'));
    const { version } = await publish(store, file, { chunkBytes: CHUNK });
    const never = new AbortController().signal;
    // What comes after the header never comes.
    const stuck = interceptStore(store, {
      read: (key: string, options: ReadOptions = {}) =>
        (options.range?.start ?? 0) < version.bytes / 2
          ? store.read(key, options)
          : new Promise((_, reject) => options.signal?.addEventListener('abort', () => reject(options.signal?.reason))),
    });
    const small = await modelOf(4096);
    const pager = pagerOf(stuck, small);
    const message = await pager.load(version, 1, never).then(
      () => expect.unreachable('it was loaded'),
      (error: Error) => error.message,
    );
    expect(message).toMatch(
      /^store:\/experts\/.*: expert "a" takes \d+ bytes, and a slot has 4096; start the region with --slot-bytes \d+ or more/,
    );
    expect(pager.cache.state).toMatchObject({ bytes: 0, files: [] });
    await small.close();
    const roomy = await modelOf(Number(/--slot-bytes (\d+)/.exec(message)?.[1]));
    await pagerOf(store, roomy).load(version, 1, never);
    await roomy.close();
  });
});
