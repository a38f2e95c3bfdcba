/**
 * Experts on their way into slots of a real model, from stores that are slow, fail or lie.
 */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ExpertVersion } from '@signpost/contracts';
import { Model, openCheckpoint, openDelta, Session, type StepBatch } from '@signpost/engine';
import { pack, publish } from '@signpost/packer';
import { type ObjectStore, openStore, type ReadOptions } from '@signpost/store';
import { FileStore } from '@signpost/store/files';
import { interceptStore } from '@signpost/store/testing';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { Demand } from './demand.ts';
import { DiskCache } from './disk-cache.ts';
import { storeReader } from './expert-reader.ts';
import { digestOf, versionOf } from './fixtures.ts';
import { Pager } from './page-in.ts';

const GOLDEN = join(import.meta.dirname, '../../../test/golden/merge');
const CHUNK = 512;
const PROMPT = [20, 57, 24, 61, 28, 65, 32, 69];
const never = new AbortController().signal;

let dir: string;
let model: Model;
let store: ObjectStore;
let version: ExpertVersion;
let expected: Float32Array;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'signpost-page-in-'));
  const base = await openCheckpoint(join(GOLDEN, 'base'));
  const file = join(dir, 'a.safetensors');
  await pack(base, await openCheckpoint(join(GOLDEN, 'a')), { name: 'a', out: file, scale: 'row', planes: 1 });
  store = openStore(join(dir, 'store'));
  version = (await publish(store, file, { chunkBytes: CHUNK })).version;
  model = await Model.load(base, {
    device: 'cpu',
    slots: 2,
    kvBlocks: 8,
    blockTokens: 8,
    maxRows: 32,
    maxLogitRows: 8,
  });
  model.loadExpert(0, openDelta(new Uint8Array(await readFile(file)), file));
  expected = await answer(0);
});
afterAll(async () => {
  model.close();
  await rm(dir, { recursive: true });
});
beforeEach(() => {
  for (const slot of [0, 1]) model.clearSlot(slot);
});

const answer = (slot: number) => new Session(model, 4, [{ slot, weight: 1 }]).append(PROMPT, 'last');

function pagerOf(from: ObjectStore, disk?: DiskCache, into: Pick<Model, 'fillSlot'> = model): Pager {
  const onProblem = (problem: string) => expect.unreachable(problem);
  const store = { url: from.url, read: storeReader(from, CHUNK) };
  return new Pager({ store, model: into, hostCacheBytes: 2 ** 24, demand: new Demand(), disk, onProblem });
}

/** The store, with what a read of bytes from `start` gives replaced. */
function altered(change: (data: Uint8Array, start: number) => Uint8Array | Promise<Uint8Array>): ObjectStore {
  return interceptStore(store, {
    read: async (key: string, options: ReadOptions = {}) => {
      const stored = await store.read(key, options);
      return { ...stored, data: await change(stored.data, options.range?.start ?? 0) };
    },
  });
}

/** A prompt's rows from `start` to `end` in a block of their own, with the logits of some. */
const rows = (start: number, end: number, logitRows: readonly number[]): StepBatch => ({
  tokens: Int32Array.from(PROMPT.slice(start, end)),
  positions: Int32Array.from({ length: end - start }, (_, row) => start + row),
  sequenceStart: Int32Array.of(0, end - start),
  blockTable: Int32Array.of(5),
  blocksPerSequence: 1,
  mixtureStart: Int32Array.from({ length: end - start + 1 }, (_, row) => row),
  mixtureSlots: new Int32Array(end - start).fill(1),
  mixtureWeights: new Float32Array(end - start).fill(1),
  logitRows: Int32Array.from(logitRows),
});
const early = rows(0, PROMPT.length, []);

describe('an expert paged in', () => {
  it('answers as one that was loaded whole, and again from memory without the store', async () => {
    let reads = 0;
    const pager = pagerOf(
      altered((data) => {
        reads++;
        return data;
      }),
    );
    await pager.load(version, 1, never);
    expect(await answer(1)).toEqual(expected);
    expect(reads).toBe(Math.ceil(version.bytes / CHUNK));
    model.clearSlot(1);
    await pager.load(version, 0, never);
    expect(await answer(0)).toEqual(expected);
    expect(reads).toBe(Math.ceil(version.bytes / CHUNK));
  });

  it('has its header read once, for as long as it is in memory', async () => {
    const opened: unknown[] = [];
    const pager = pagerOf(store, undefined, {
      fillSlot: async (_slot, opening, until) => {
        opened.push(await opening);
        await until(version.bytes);
      },
    });
    for (let load = 0; load < 2; load++) await pager.load(version, 1, never);
    expect(opened[0]).toBeDefined();
    expect(opened[1]).toBe(opened[0]);
  });

  it('is used layer by layer while it comes in, and holds up nobody else', async () => {
    let release: () => void = () => undefined;
    const gate = new Promise<void>((resolve) => {
      release = resolve;
    });
    // The embedding and a layer are there.
    const pager = pagerOf(
      altered(async (data, start) => {
        if (start > version.bytes * 0.4) await gate;
        return data;
      }),
    );
    const base = await new Session(model, 4).append(PROMPT, 'last');
    const load = pager.load(version, 1, never);
    let isDone = false;
    const step = model.forwardArriving([early], never).then(() => {
      isDone = true;
    });
    // The rest of the work is done meanwhile, whatever the early step was at.
    for (let turn = 0; turn < 20; turn++) {
      expect(await new Session(model, 4).append(PROMPT, 'last')).toEqual(base);
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect(isDone).toBe(false);
    await expect(answer(1)).rejects.toThrow(/still being loaded/);
    release();
    await Promise.all([load, step]);
    // One more token, over the keys and values that the early step has written.
    const next = (block: number) =>
      model.forward({
        ...early,
        tokens: Int32Array.of(3),
        positions: Int32Array.of(PROMPT.length),
        sequenceStart: Int32Array.of(0, 1),
        blockTable: Int32Array.of(block, 7),
        blocksPerSequence: 2,
        mixtureStart: Int32Array.of(0, 1),
        mixtureSlots: Int32Array.of(1),
        mixtureWeights: Float32Array.of(1),
        logitRows: Int32Array.of(0),
      });
    const found = await next(5);
    await answer(1);
    expect(found).toEqual(await next(0));
  });

  it.each([1, 3, 8])(
    'answers a prompt that went through its layers in chunks of %i as they came, once it is whole',
    async (size) => {
      let release: () => void = () => undefined;
      const gate = new Promise<void>((resolve) => {
        release = resolve;
      });
      // All is there but for the last byte's chunk.
      const pager = pagerOf(
        altered(async (data, start) => {
          if (start + CHUNK >= version.bytes) await gate;
          return data;
        }),
      );
      const load = pager.load(version, 1, never);
      const chunks: StepBatch[] = [];
      for (let start = 0; start < PROMPT.length; start += size) {
        const end = Math.min(start + size, PROMPT.length);
        chunks.push(rows(start, end, end === PROMPT.length ? [end - start - 1] : []));
      }
      let isDone = false;
      const step = model.forwardArriving(chunks, never).finally(() => {
        isDone = true;
      });
      for (let turn = 0; turn < 20; turn++) {
        // Another's step uses the same activations.
        await new Session(model, 4).append(PROMPT.toReversed(), 'last');
        await new Promise((resolve) => setImmediate(resolve));
      }
      expect(isDone).toBe(false);
      release();
      expect(await step).toEqual(expected);
      await load;
    },
  );

  it('that is altered in the store fails with the reason, leaves the slot empty, and is had once it is mended', async () => {
    let isAltered = true;
    const flip = (data: Uint8Array) => data.map((byte, i) => (i === 5 ? byte ^ 1 : byte));
    const pager = pagerOf(altered((data, start) => (isAltered && start === 4 * CHUNK ? flip(data) : data)));
    const base = await new Session(model, 4).append(PROMPT, 'last');
    const load = pager.load(version, 1, never);
    const step = expect(model.forwardArriving([early], never)).rejects.toThrow(/altered/);
    await expect(load).rejects.toThrow(/bytes 2048–2560 have digest .*altered/);
    await step;
    expect(await answer(1)).toEqual(base);
    expect(pager.cache.state.bytes).toBe(0);
    isAltered = false;
    await pager.load(version, 1, never);
    expect(await answer(1)).toEqual(expected);
  });

  it('that is altered once, in the store or on the disk, answers as ever, and that is counted', async () => {
    let isAltered = true;
    const flip = (data: Uint8Array) => data.map((byte, i) => (i === 5 ? byte ^ 1 : byte));
    const once = altered((data, start) => {
      if (!isAltered || start !== 4 * CHUNK) return data;
      isAltered = false;
      return flip(data);
    });
    const folder = join(dir, 'damaged');
    const first = pagerOf(once, await DiskCache.open(folder, 2 ** 24));
    await first.load(version, 1, never);
    expect(first.integrityFailures).toMatchObject({ store: { chunk: 1 }, disk: { chunk: 0 } });
    const file = join(folder, `${version.digest}.delta.safetensors`);
    await expect.poll(() => readFile(file).catch(() => undefined)).toBeDefined();
    await writeFile(file, flip(await readFile(file)));
    const problems: string[] = [];
    const again = pagerOf(store, await DiskCache.open(folder, 2 ** 24, (problem) => problems.push(problem)));
    await again.load(version, 0, never);
    expect(await answer(0)).toEqual(expected);
    // Wrong in both readings, and then dropped.
    const none = { chunk: 0, file: 0, size: 0 };
    expect(again.integrityFailures).toEqual({ store: none, disk: { ...none, chunk: 2 } });
    expect(problems).toHaveLength(1);
  });

  it('is given up when nobody waits for it, and so is what waits for its layers', async () => {
    const signals: (AbortSignal | undefined)[] = [];
    const stuck = interceptStore(store, {
      read: (_key, { signal } = {}) => {
        signals.push(signal);
        return new Promise((_, reject) => signal?.addEventListener('abort', () => reject(signal.reason)));
      },
    });
    const controller = new AbortController();
    const load = pagerOf(stuck).load(version, 1, controller.signal);
    const step = expect(model.forwardArriving([early], controller.signal)).rejects.toThrow('left');
    await expect.poll(() => signals.length).toBeGreaterThan(0);
    controller.abort(new Error('left'));
    await expect(load).rejects.toThrow('left');
    await step;
    expect(signals.every((signal) => signal?.aborted)).toBe(true);
  });

  it('comes from the disk after a restart, without the store', async () => {
    const folder = join(dir, 'disk');
    await pagerOf(store, await DiskCache.open(folder, 2 ** 24)).load(version, 1, never);
    const disk = await DiskCache.open(folder, 2 ** 24);
    const onChunk = () => undefined;
    await expect.poll(() => disk.read(version, { onChunk })).toBe(true);
    const gone = interceptStore(store, { read: () => Promise.reject(new Error('the store is gone')) });
    await pagerOf(gone, disk).load(version, 0, never);
    expect(await answer(0)).toEqual(expected);
  });
});

describe('a disk slower than the link', () => {
  const BYTES = 1_000;

  afterEach(() => vi.restoreAllMocks());

  /** A pager of files that come at once, with memory for so many, over a disk whose writes the test ends. */
  async function pagerWith(files: number) {
    const writes: (() => void)[] = [];
    const { write } = FileStore.prototype;
    vi.spyOn(FileStore.prototype, 'write').mockImplementation(async function (this: FileStore, ...file) {
      await new Promise<void>((resolve) => writes.push(resolve));
      return write.apply(this, file);
    });
    const disk = await DiskCache.open(await mkdtemp(join(dir, 'slow-')), 2 ** 20);
    const pager = new Pager({
      store: { url: 'file:///', read: async ({ bytes }, { onChunk }) => onChunk(new Uint8Array(bytes), 0) },
      model,
      hostCacheBytes: files * BYTES,
      demand: new Demand(),
      disk,
      onProblem: (problem) => expect.unreachable(problem),
    });
    const use = async (name: number) => {
      const file = await pager.cache.acquire(versionOf(name, BYTES), never);
      await file.until(BYTES);
      file.release();
    };
    const hasBegun = () => expect.poll(() => writes.length).toBe(1);
    const end = () => writes.shift()?.();
    return { pager, disk, use, writes, hasBegun, end };
  }

  it('keeps one file of memory at a time, and goes without those that memory has given up meanwhile', async () => {
    const { pager, disk, use, hasBegun, end } = await pagerWith(2);
    await use(1);
    await hasBegun();
    for (const name of [2, 3, 4, 3, 5]) await use(name);
    // The one being written was used longest ago, and is still counted.
    expect(pager.cache.state).toMatchObject({ files: [1, 5].map(digestOf), bytes: 2 * BYTES });
    end();
    await hasBegun();
    expect(disk.state.files).toEqual([digestOf(1)]);
    end();
    await expect.poll(() => disk.state.files).toEqual([1, 5].map(digestOf));
    await use(6);
    expect(pager.cache.state.files).toEqual([5, 6].map(digestOf));
    await hasBegun();
    end();
    await expect.poll(() => disk.state.files).toEqual([1, 5, 6].map(digestOf));
  });

  it('makes the next file wait where memory is full of the one being written', async () => {
    const { pager, disk, use, hasBegun, end } = await pagerWith(1);
    await use(1);
    await hasBegun();
    const second = use(2);
    expect(pager.cache.state).toMatchObject({ lookups: 2, files: [digestOf(1)], bytes: BYTES });
    end();
    await second;
    expect(pager.cache.state).toMatchObject({ files: [digestOf(2)], bytes: BYTES });
    await hasBegun();
    end();
    await expect.poll(() => disk.state.files).toEqual([1, 2].map(digestOf));
  });

  it('still forgets an expert that is evicted before its turn', async () => {
    const { pager, disk, use, writes, hasBegun, end } = await pagerWith(3);
    for (const name of [1, 2]) await use(name);
    await hasBegun();
    const dropped = pager.drop(digestOf(2));
    end();
    expect(await dropped).toEqual(['host']);
    expect(disk.state.files).toEqual([digestOf(1)]);
    expect(writes).toEqual([]);
  });
});
