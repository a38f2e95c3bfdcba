/**
 * The tiers together, over a store whose reads the test ends.
 */

import { Registry } from 'prom-client';
import { describe, expect, it } from 'vitest';
import { pagingMetrics } from '../server/paging-metrics.ts';
import type { ReadingOptions } from './expert-reader.ts';
import { digestOf, versionOf } from './fixtures.ts';
import { Paging, type PagingOptions } from './paging.ts';

const BYTES = 10;
const version = (name: number) => versionOf(name, BYTES);

interface Reading {
  readonly name: number;
  readonly options: ReadingOptions;
  readonly end: () => void;
  readonly fail: (error: Error) => void;
}

function driven(slots: number, { hostCacheBytes = 100, onChange = () => {} }: Partial<PagingOptions> = {}) {
  const readings: Reading[] = [];
  const paging = new Paging({
    slots,
    store: {
      url: 'file:///store',
      read: ({ digest }, options) =>
        new Promise((resolve, reject) => {
          options.signal?.addEventListener('abort', () => reject(options.signal?.reason));
          const end = () => {
            options.onChunk(new Uint8Array(BYTES), 0);
            resolve();
          };
          readings.push({ name: Number(digest), options, end, fail: reject });
        }),
    },
    // Nothing is opened of what has no header.
    model: {
      fillSlot: async (_slot, opening, until) => {
        opening.catch(() => undefined);
        await until(BYTES);
      },
    },
    hostCacheBytes,
    disk: undefined,
    onProblem: (problem) => expect.unreachable(problem),
    onChange,
  });
  const reading = (name: number) => expect.poll(() => readings.at(-1)?.name).toBe(name);
  return { paging, readings, reading };
}

describe('what goes wrong with an expert', () => {
  it('is in the metrics: what was altered, by where it came from, and loads that failed, by where to', async () => {
    const { paging, readings, reading } = driven(1);
    const registry = new Registry();
    const metrics = pagingMetrics(registry);
    const values = async (name: string) => {
      metrics.set(paging.state);
      const { values = [] } = (await registry.getSingleMetric(name)?.get()) ?? {};
      return Object.fromEntries(values.map(({ labels, value }) => [Object.values(labels).join(' '), value]));
    };
    // From the start, so that the first one is seen as a rise.
    expect(await values('signpost_integrity_failures_total')).toEqual({
      'disk chunk': 0,
      'disk file': 0,
      'disk size': 0,
      'store chunk': 0,
      'store file': 0,
      'store size': 0,
    });
    const held = await paging.residency.acquire([version(1)], new AbortController().signal);
    await reading(1);
    readings.at(-1)?.options.onMismatch?.('chunk');
    readings.at(-1)?.end();
    await held.whole;
    paging.prefetcher.hint([version(2)]);
    await reading(2);
    readings.at(-1)?.options.onMismatch?.('size');
    readings.at(-1)?.fail(new Error('altered'));
    await expect
      .poll(() => values('signpost_expert_loads_total'))
      .toEqual({
        'device loaded': 1,
        'device failed': 0,
        'device cancelled': 0,
        'host loaded': 0,
        'host failed': 1,
        'host cancelled': 0,
      });
    expect(await values('signpost_integrity_failures_total')).toMatchObject({ 'store chunk': 1, 'store size': 1 });
    held.release();
  });
});

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

describe('the tiers', () => {
  it('tell when a file has come into memory, whole, and when it has left it for another', async () => {
    const told: (readonly number[])[] = [];
    const { paging, readings, reading } = driven(1, {
      hostCacheBytes: 2 * BYTES,
      onChange: () => told.push(paging.state.host.whole.map(Number)),
    });
    const come = async (name: number) => {
      await reading(name);
      readings.at(-1)?.end();
    };
    const loading = paging.load(version(1), 60_000);
    await come(1);
    await loading;
    expect(told.at(-1)).toEqual([1]);
    // The only slot is taken: into memory.
    told.length = 0;
    paging.prefetcher.hint([version(2)]);
    await come(2);
    await expect.poll(() => told).toEqual([[1, 2]]);
    // One of the two makes room when the third begins, and is told gone before that is in.
    told.length = 0;
    const third = paging.load(version(3), 60_000);
    await expect.poll(() => told.at(-1)).toHaveLength(1);
    await come(3);
    await third;
    expect(told.at(-1)).toContain(3);
    told.length = 0;
    await paging.evict(digestOf(3));
    expect(told.at(-1)).not.toContain(3);
  });
});
