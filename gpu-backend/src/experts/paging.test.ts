/**
 * The tiers together, over a store whose reads the test ends.
 */
import { describe, expect, it } from 'vitest';
import type { ReadingOptions } from './expert-reader.ts';
import { digestOf, versionOf } from './fixtures.ts';
import { Paging } from './paging.ts';

const BYTES = 10;
const version = (name: number) => versionOf(name, BYTES);

interface Reading {
  readonly name: number;
  readonly options: ReadingOptions;
  readonly end: () => void;
  readonly fail: (error: Error) => void;
}

function driven(slots: number) {
  const readings: Reading[] = [];
  const paging = new Paging({
    slots,
    store: {
      url: 'file:///store',
      read: ({ digest }, options) =>
        new Promise((resolve, reject) => {
          options.signal?.addEventListener('abort', () => reject(options.signal?.reason));
          readings.push({ name: Number(digest), options, end: resolve, fail: reject });
        }),
    },
    // Nothing is opened of what has no header.
    model: {
      fillSlot: async (_slot, opening, until) => {
        opening.catch(() => undefined);
        await until(BYTES);
      },
    },
    hostCacheBytes: 100,
    disk: undefined,
    onProblem: (problem) => expect.unreachable(problem),
    onChange: () => undefined,
  });
  const reading = (name: number) => expect.poll(() => readings.at(-1)?.name).toBe(name);
  return { paging, readings, reading };
}

describe('an expert that is evicted while it comes in ahead', () => {
  it.each([1, 0])('is given up, and comes into no tier again of itself, with %i slots', async (slots) => {
    const { paging, readings, reading } = driven(slots);
    paging.prefetcher.keep({ pinned: [], preload: [version(1), version(2)] });
    await reading(1);
    expect(await paging.evict(digestOf(1))).toEqual(slots === 0 ? ['host'] : ['device', 'host']);
    expect(readings[0]?.options.signal?.aborted).toBe(true);
    await reading(2);
    readings[1]?.end();
    await expect.poll(() => paging.state.host).toMatchObject({ files: [digestOf(2)], bytes: BYTES });
    expect(readings).toHaveLength(2);
  });
});
