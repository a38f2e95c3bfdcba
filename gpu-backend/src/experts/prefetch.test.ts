import type { Digest } from '@signpost/contracts';
import { abortable } from '@signpost/engine';
import { describe, expect, it } from 'vitest';
import { digestOf, versionOf as version } from './fixtures.ts';
import { Prefetcher, type PrefetcherOptions } from './prefetch.ts';
import { Residency } from './residency.ts';

const never = new AbortController().signal;
const nameOf = ({ digest }: { readonly digest: Digest }) => Number(digest);

/** A prefetcher over slots whose loads the test ends. */
function driven(slots: number, warm: PrefetcherOptions['warm'] = async () => undefined) {
  const loads: { readonly name: number; readonly end: () => void; readonly fail: (error: Error) => void }[] = [];
  const warmed: number[] = [];
  const problems: string[] = [];
  const residency = new Residency({
    slots,
    load: (expert, _, signal) =>
      new Promise((resolve, reject) => {
        signal.addEventListener('abort', () => reject(signal.reason));
        loads.push({ name: nameOf(expert), end: resolve, fail: reject });
      }),
  });
  const prefetcher = new Prefetcher({
    residency,
    warm: async (expert, signal) => {
      await warm(expert, signal);
      warmed.push(nameOf(expert));
    },
    onProblem: (problem) => problems.push(problem),
    retryMs: 20,
  });
  const loading = (name: number) => expect.poll(() => loads.at(-1)?.name).toBe(name);
  return { loads, warmed, problems, residency, prefetcher, loading };
}

const resident = (residency: Residency) => residency.state.resident.map(Number).sort();

describe('what is to be at hand', () => {
  it('comes in one after the other, pinned ones first, preloaded ones as far as slots are empty and then into memory', async () => {
    const { loads, warmed, residency, prefetcher, loading } = driven(3);
    prefetcher.keep({ pinned: [version(1)], preload: [2, 3, 4, 5].map(version) });
    for (const name of [1, 2, 3]) {
      await loading(name);
      loads.at(-1)?.end();
    }
    await expect.poll(() => warmed).toEqual([4, 5]);
    expect(loads).toHaveLength(3);
    expect(resident(residency)).toEqual([1, 2, 3]);
    // Said again, nothing is done again, even when others took a slot.
    const lease = await residency.acquire([version(9)], never);
    loads.at(-1)?.end();
    await lease.whole;
    lease.release();
    prefetcher.keep({ pinned: [version(1)], preload: [2, 3, 4, 5].map(version) });
    await new Promise((resolve) => setTimeout(resolve, 30));
    expect(loads).toHaveLength(4);
    expect(warmed).toEqual([4, 5]);
    expect(resident(residency)).toContain(1);
  });

  it('is tried again when it could not be had, and its trouble is told', async () => {
    const { loads, problems, residency, prefetcher, loading } = driven(2);
    prefetcher.keep({ pinned: [version(1)], preload: [] });
    await loading(1);
    loads[0]?.fail(new Error('the store is gone'));
    await expect.poll(() => loads.length).toBe(2);
    loads[1]?.end();
    await expect.poll(() => resident(residency)).toEqual([1]);
    expect(problems).toEqual([expect.stringMatching(/^expert 0+1 can't be brought in ahead.*the store is gone$/)]);
  });

  it('that was pinned and is no more can be evicted, and the new version takes its place', async () => {
    const { loads, residency, prefetcher, loading } = driven(2);
    prefetcher.keep({ pinned: [version(1)], preload: [] });
    await loading(1);
    loads[0]?.end();
    prefetcher.keep({ pinned: [version(2)], preload: [] });
    await loading(2);
    loads[1]?.end();
    await expect.poll(() => resident(residency)).toEqual([1, 2]);
    const lease = await residency.acquire([version(3)], never);
    loads[2]?.end();
    await lease.whole;
    expect(resident(residency)).toEqual([2, 3]);
  });
});

describe('what is no longer to be at hand while it comes', () => {
  const load = (pinned: readonly number[], preload: readonly number[] = []) => ({
    pinned: pinned.map((name) => version(name)),
    preload: preload.map((name) => version(name)),
  });

  it.each([
    ['unpinned', load([1])],
    ['taken off the list', load([], [1])],
  ])('is given up when it is %s, without a word, and the next one comes', async (_, before) => {
    const { loads, problems, residency, prefetcher, loading } = driven(2);
    prefetcher.keep(before);
    await loading(1);
    prefetcher.keep(load([], [2]));
    await loading(2);
    loads.at(-1)?.end();
    await expect.poll(() => resident(residency)).toEqual([2]);
    expect(residency.state.loads).toEqual({ loaded: 1, cancelled: 1, failed: 0 });
    expect(problems).toEqual([]);
  });

  it('comes for who asks for it all the same', async () => {
    const { loads, residency, prefetcher, loading } = driven(2);
    for (const before of [load([1]), load([], [1])]) {
      prefetcher.keep(before);
      await loading(1);
      const lease = await residency.acquire([version(1)], never);
      prefetcher.keep(load([]));
      loads.at(-1)?.end();
      await lease.whole;
      lease.release();
      expect(residency.evict(digestOf(1))).toBe(true);
    }
    expect(residency.state.loads).toEqual({ loaded: 2, cancelled: 0, failed: 0 });
  });

  it('goes on where another reason for it is left', async () => {
    const { loads, residency, prefetcher, loading } = driven(2);
    prefetcher.keep(load([1]));
    await loading(1);
    prefetcher.keep(load([], [1]));
    prefetcher.keep(load([1]));
    loads.at(-1)?.end();
    await expect.poll(() => resident(residency)).toEqual([1]);
    expect(loads).toHaveLength(1);
  });

  it('is given up on its way into memory, too', async () => {
    const signals: AbortSignal[] = [];
    const { warmed, prefetcher } = driven(0, async (expert, signal) => {
      if (expert.digest !== digestOf(1)) return;
      signals.push(signal);
      await abortable(new Promise(() => undefined), signal);
    });
    prefetcher.keep(load([], [1]));
    await expect.poll(() => signals.length).toBe(1);
    prefetcher.keep(load([], [2]));
    await expect.poll(() => warmed).toEqual([2]);
    expect(signals[0]?.aborted).toBe(true);
  });
});

describe('a load that nobody waits for', () => {
  it('gives its slot to who needs one, and its expert goes to memory instead', async () => {
    const { loads, warmed, residency, prefetcher, loading } = driven(1);
    prefetcher.hint([version(1)]);
    await loading(1);
    const acquired = residency.acquire([version(2)], never);
    await loading(2);
    loads[1]?.end();
    await (await acquired).whole;
    expect(warmed).toEqual([1]);
    expect(residency.state.loads).toMatchObject({ loaded: 1, cancelled: 1, failed: 0 });
  });

  it('is joined by who comes for its expert, and is then no longer given up', async () => {
    const { loads, residency, prefetcher, loading } = driven(1);
    prefetcher.hint([version(1)]);
    await loading(1);
    const one = await residency.acquire([version(1)], never);
    const abort = new AbortController();
    const two = residency.acquire([version(2)], abort.signal);
    loads[0]?.end();
    await one.whole;
    expect(loads).toHaveLength(1);
    abort.abort(new Error('enough'));
    await expect(two).rejects.toThrow('enough');
    // On its way is no hit, but nobody else loads it.
    expect(residency.state).toMatchObject({ lookups: 2, hits: 0 });
  });
});
