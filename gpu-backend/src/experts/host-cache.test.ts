import { randomBytes } from 'node:crypto';
import type { Digest } from '@signpost/contracts';
import type { VerifiedReadOptions } from '@signpost/store';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { versionOf } from './fixtures.ts';
import { HostCache, type HostFile } from './host-cache.ts';

const version = (name: number, bytes = 10) => versionOf(name, bytes);
const never = new AbortController().signal;
const settled = () => new Promise((resolve) => setImmediate(resolve));

/** A cache over readings that the test drives. */
function driven(
  budgetBytes: number,
  demand: (digest: Digest) => number = () => 0,
  memoryOf: (bytes: number) => ArrayBuffer = (bytes) => new ArrayBuffer(bytes),
) {
  const prepared: ArrayBuffer[] = [];
  const readings: {
    readonly digest: Digest;
    readonly options: VerifiedReadOptions;
    readonly end: () => void;
    readonly fail: (error: Error) => void;
  }[] = [];
  const cache = new HostCache({
    budgetBytes,
    demand,
    prepare: async (bytes) => {
      const memory = memoryOf(bytes);
      prepared.push(memory);
      return memory;
    },
    read: ({ digest }, options) =>
      new Promise((resolve, reject) => {
        options.signal?.addEventListener('abort', () => reject(options.signal?.reason));
        readings.push({ digest, options, end: resolve, fail: reject });
      }),
  });
  return { cache, readings, prepared };
}

describe('a file on its way into the host cache', () => {
  it('is used as far as it has come, and wholly once its reading has ended', async () => {
    const { cache, readings } = driven(100);
    const file = await cache.acquire(version(1), never);
    const data = randomBytes(10);
    const reached: number[] = [];
    for (const end of [4, 6, 9, 10]) void file.until(end).then(() => reached.push(end));
    await readings[0]?.options.onChunk(data.subarray(0, 6), 0);
    await settled();
    expect(reached).toEqual([4, 6]);
    await readings[0]?.options.onChunk(data.subarray(6), 6);
    await settled();
    expect(reached).toEqual([4, 6, 9]);
    readings[0]?.end();
    await settled();
    expect(reached).toEqual([4, 6, 9, 10]);
    expect(file.bytes).toEqual(new Uint8Array(data));
  });

  it('that the machine has no memory for, whatever the budget says, takes nothing of the budget', async () => {
    const { cache } = driven(2 ** 52);
    await expect(cache.acquire(version(1, 2 ** 51), never)).rejects.toThrow(RangeError);
    expect(cache.state).toMatchObject({ bytes: 0, files: [] });
  });

  it('comes into memory that was prepared after one of its length, where that displaces nothing', async () => {
    const { cache, readings, prepared } = driven(25);
    const one = await cache.acquire(version(1), never);
    readings[0]?.end();
    await settled();
    expect(prepared.map(({ byteLength }) => byteLength)).toEqual([10]);
    expect(cache.state.bytes).toBe(10);
    const two = await cache.acquire(version(2), never);
    expect(two.bytes.buffer).toBe(prepared[0]);
    expect(one.bytes.buffer).not.toBe(prepared[0]);
    // There is no room for a third beside these.
    readings[1]?.end();
    await settled();
    expect(prepared).toHaveLength(1);
    for (const file of [one, two]) file.release();
    const three = await cache.acquire(version(3), never);
    expect(prepared).toHaveLength(1);
    expect(three.bytes.buffer).not.toBe(prepared[0]);
  });

  it('of another length has memory of its own, and what was prepared is given up where the budget ends', async () => {
    const { cache, readings, prepared } = driven(25);
    const one = await cache.acquire(version(1), never);
    readings[0]?.end();
    await settled();
    const long = await cache.acquire(version(2, 12), never);
    expect(long.bytes.byteLength).toBe(12);
    one.release();
    const again = await cache.acquire(version(3), never);
    expect(prepared).toHaveLength(1);
    expect(again.bytes.buffer).not.toBe(prepared[0]);
  });

  it('whose memory could not be prepared has its own when it comes', async () => {
    const { cache, readings } = driven(
      100,
      () => 0,
      () => {
        throw new RangeError('there is no memory');
      },
    );
    await cache.acquire(version(1), never);
    readings[0]?.end();
    await settled();
    expect((await cache.acquire(version(2), never)).bytes.byteLength).toBe(10);
  });

  it('is read once for all who want it, and given up when the last of them leaves', async () => {
    const { cache, readings } = driven(100);
    const [one, two] = [await cache.acquire(version(1), never), await cache.acquire(version(1), never)];
    expect(readings).toHaveLength(1);
    const waiting = expect(two.until(10)).rejects.toThrow('nobody waits for it any more');
    one.release();
    expect(readings[0]?.options.signal?.aborted).toBe(false);
    two.release();
    expect(readings[0]?.options.signal?.aborted).toBe(true);
    await waiting;
    expect(cache.state).toMatchObject({ bytes: 0, files: [] });
    await cache.acquire(version(1), never);
    expect(readings).toHaveLength(2);
  });

  it('that fails fails all who wait for it, and the next begins anew', async () => {
    const { cache, readings } = driven(100);
    const files = [await cache.acquire(version(1), never), await cache.acquire(version(1), never)];
    await readings[0]?.options.onChunk(new Uint8Array(5), 0);
    const failed = files.map((file) => expect(file.until(6)).rejects.toThrow('altered'));
    readings[0]?.fail(new Error('altered'));
    await Promise.all(failed);
    // What had come was right.
    await files[0]?.until(5);
    await expect(files[0]?.until(6)).rejects.toThrow('altered');
    for (const file of files) file.release();
    expect(cache.state.bytes).toBe(0);
    await cache.acquire(version(1), never);
    expect(readings).toHaveLength(2);
  });
});

describe('the host cache', () => {
  it('refuses what is larger than it, before it takes memory', async () => {
    const { cache } = driven(100);
    await expect(cache.acquire(version(1, 2 ** 50), never)).rejects.toThrow(/raise --host-cache-bytes/);
  });

  it('evicts the file used longest ago, and none in use', async () => {
    const { cache, readings } = driven(30);
    const held: HostFile[] = [];
    for (const name of [1, 2, 3]) {
      held.push(await cache.acquire(version(name), never));
      readings.at(-1)?.end();
      await settled();
    }
    for (const file of held.slice(0, 2)) file.release();
    (await cache.acquire(version(1), never)).release();
    await cache.acquire(version(4), never);
    expect(cache.state.files.map(Number)).toEqual([3, 1, 4]);
    expect(cache.state).toMatchObject({ lookups: 5, hits: 1, evictions: 1, bytes: 30 });
  });

  it('makes loads wait for memory in order, also past one that leaves', async () => {
    const { cache, readings } = driven(10);
    const first = await cache.acquire(version(1), never);
    const order: number[] = [];
    const controller = new AbortController();
    const left = expect(cache.acquire(version(2), controller.signal)).rejects.toThrow('left');
    const third = cache.acquire(version(3, 6), never).then((file) => {
      order.push(3);
      return file;
    });
    const fourth = cache.acquire(version(4, 6), never).then(() => order.push(4));
    controller.abort(new Error('left'));
    await left;
    first.release();
    const file = await third;
    await settled();
    expect(order).toEqual([3]);
    readings.at(-1)?.end();
    await settled();
    file.release();
    await fourth;
    expect(cache.state.files.map(Number)).toEqual([4]);
  });

  it('never holds more than its budget, and in the end serves everybody', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.record({ name: fc.integer({ min: 1, max: 6 }), act: fc.nat(4) }), { maxLength: 60 }),
        async (steps) => {
          const { cache, readings } = driven(25);
          const held: HostFile[] = [];
          let pending = 0;
          const check = () => expect(cache.state.bytes).toBeLessThanOrEqual(25);
          const finish = () => {
            for (const reading of readings.splice(0)) reading.end();
          };
          for (const { name, act } of steps) {
            if (act <= 1) {
              pending++;
              void cache.acquire(version(name, 4 + name), never).then((file) => {
                pending--;
                held.push(file);
              });
            } else if (act === 2) held.shift()?.release();
            else if (act === 3) readings.shift()?.end();
            else readings.shift()?.fail(new Error('altered'));
            if (name % 2 === 0) await settled();
            check();
          }
          for (let turn = 0; turn < 200 && (pending > 0 || held.length > 0); turn++) {
            await settled();
            finish();
            await settled();
            held.shift()?.release();
            check();
          }
          expect(pending).toBe(0);
        },
      ),
      { numRuns: 100 },
    );
  });
});

describe('what is kept in memory', () => {
  const bring = async ({ cache, readings }: ReturnType<typeof driven>, name: number) => {
    const file = await cache.acquire(version(name), never);
    if (!cache.holds(version(name).digest)) {
      await readings.at(-1)?.options.onChunk(randomBytes(10), 0);
      readings.at(-1)?.end();
      await file.until(10);
    }
    file.release();
  };
  const held = ({ cache }: ReturnType<typeof driven>) => cache.state.files.map(Number).sort();

  it('is what is asked for most', async () => {
    const demand = (digest: Digest) => (Number(digest) === 1 ? 5 : 1);
    const driver = driven(20, demand);
    for (const name of [1, 2, 3]) await bring(driver, name);
    expect(held(driver)).toEqual([1, 3]);
    expect(driver.cache.state.evictions).toBe(1);
  });

  it('is not given up for a file that nobody has asked for, unless that is asked for more', async () => {
    const demand = new Map([1, 2, 3].map((name) => [version(name).digest, name === 3 ? 2 : 1]));
    const driver = driven(10, (digest) => demand.get(digest) ?? 0);
    await bring(driver, 1);
    expect(await driver.cache.warm(version(2), never)).toBe(false);
    expect(held(driver)).toEqual([1]);
    const warmed = driver.cache.warm(version(3), never);
    await settled();
    await driver.readings.at(-1)?.options.onChunk(randomBytes(10), 0);
    driver.readings.at(-1)?.end();
    expect(await warmed).toBe(true);
    expect(held(driver)).toEqual([3]);
  });

  it('ahead of who asks for it is counted by how its loading ended', async () => {
    const { cache, readings } = driven(100);
    const warm = async (name: number, signal = never) => {
      const done = cache.warm(version(name), signal);
      await settled();
      return { done, reading: readings.at(-1) };
    };
    const first = await warm(1);
    first.reading?.fail(new Error('altered'));
    await expect(first.done).rejects.toThrow('altered');
    const second = await warm(1);
    second.reading?.end();
    expect(await second.done).toBe(true);
    // It is here.
    await (await warm(1)).done;
    const leaves = new AbortController();
    const third = await warm(2, leaves.signal);
    leaves.abort(new Error('left'));
    await expect(third.done).rejects.toThrow('left');
    expect(cache.state.loads).toEqual({ loaded: 1, failed: 1, cancelled: 1 });
  });

  it('is dropped when told, and its memory is free when its users have left', async () => {
    const driver = driven(10);
    await bring(driver, 1);
    const file = await driver.cache.acquire(version(1), never);
    expect(driver.cache.drop(version(1).digest)).toBe(true);
    expect(driver.cache.drop(version(1).digest)).toBe(false);
    expect(driver.cache.state).toMatchObject({ bytes: 10, files: [] });
    file.release();
    expect(driver.cache.state.bytes).toBe(0);
    await bring(driver, 1);
    expect(driver.readings).toHaveLength(2);
    driver.cache.drop(version(1).digest);
    expect(driver.cache.state.bytes).toBe(0);
  });
});
