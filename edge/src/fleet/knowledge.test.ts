import { HEARTBEAT_SILENCE_MS, type Heartbeat } from '@signpost/contracts';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { ForeignLoads } from '../backends/foreign-load.ts';
import { Waker } from '../backends/waker.ts';
import { Cached } from '../cached.ts';
import { FleetHealth } from '../forward/region-health.ts';
import { Knowledge } from './knowledge.ts';
import type { HeardBeat } from './roll.ts';

const heard = (replica: string, agoMs: number): HeardBeat => ({
  beat: { region: 'eu', replica } as Heartbeat,
  heardAt: Date.now() - agoMs,
});

function knowing(read: () => Promise<HeardBeat[]>) {
  const log = () => undefined;
  const backends = { signingKey: undefined, secrets: new Map<string, string>(), now: Date.now, log };
  const common = { now: Date.now, log, maxAgeMs: 1_000 };
  const knowledge = new Knowledge({
    fleet: new Cached({ ...common, name: 'fleet', forgetAfterMs: HEARTBEAT_SILENCE_MS, read }),
    catalogue: new Cached({ ...common, name: 'catalogue', read: async () => undefined }),
    health: new FleetHealth(),
    foreignLoads: new ForeignLoads(backends),
    waker: new Waker({ ...backends, mayWake: async () => false }),
  });
  const pending: Promise<unknown>[] = [];
  const waitUntil = (promise: Promise<unknown>) => void pending.push(promise);
  return { knowledge, pending, waitUntil };
}

it('has only those of a copy that count now, and none where there is no copy', async () => {
  // As it was read some seconds ago.
  const { knowledge, pending, waitUntil } = knowing(async () => [
    heard('late', HEARTBEAT_SILENCE_MS + 100),
    heard('lately', 5_000),
  ]);
  expect(knowledge.beats(waitUntil)).toBeUndefined();
  await Promise.all(pending);
  expect(knowledge.beats(waitUntil)?.map(({ beat }) => beat.replica)).toEqual(['lately']);
  expect((await knowledge.recent(waitUntil)).beats.map(({ beat }) => beat.replica)).toEqual(['lately']);
});

describe('a vigil for a region', () => {
  afterEach(() => vi.useRealTimers());

  /** Seconds go by, with a look in each. */
  async function watch(isSilent: () => boolean, seconds: number, pending: Promise<unknown>[]): Promise<boolean[]> {
    const seen: boolean[] = [];
    for (let second = 0; second < seconds; second++) {
      vi.advanceTimersByTime(1_000);
      seen.push(isSilent());
      await Promise.allSettled(pending);
    }
    return seen;
  }

  async function begun(read: () => Promise<HeardBeat[]>) {
    vi.useFakeTimers({ toFake: ['Date'] });
    const { knowledge, pending, waitUntil } = knowing(read);
    knowledge.beats(waitUntil);
    await Promise.all(pending);
    return { vigil: (region: string) => knowledge.vigil(region, waitUntil), pending };
  }

  it('tells once it has not been heard for as long as a heartbeat counts', async () => {
    const last = heard('a', 0);
    const { vigil, pending } = await begun(async () =>
      Date.now() - last.heardAt <= HEARTBEAT_SILENCE_MS ? [last] : [],
    );
    const isSilent = vigil('eu') ?? expect.unreachable();
    expect(await watch(isSilent, HEARTBEAT_SILENCE_MS / 1_000, pending)).not.toContain(true);
    expect(await watch(isSilent, 2, pending)).toContain(true);
  });

  it('tells nothing of one that goes on to be heard, nor while nobody can tell what was heard', async () => {
    let isReachable = true;
    const { vigil, pending } = await begun(async () => {
      if (!isReachable) throw new Error('unreachable');
      // Of a copy that is kept its beats grow too old a while before itself.
      return [heard('a', 1_900)];
    });
    const isSilent = vigil('eu') ?? expect.unreachable();
    expect(await watch(isSilent, 30, pending)).not.toContain(true);
    isReachable = false;
    expect(await watch(isSilent, 30, pending)).not.toContain(true);
  });

  it('is not kept for one of which nothing is heard anyway', async () => {
    const { vigil } = await begun(async () => [heard('a', 0)]);
    expect(vigil('us')).toBeUndefined();
  });
});
