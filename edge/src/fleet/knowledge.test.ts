import { HEARTBEAT_SILENCE_MS, type Heartbeat } from '@signpost/contracts';
import { expect, it } from 'vitest';
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

it('has only those of a copy that count now, and none where there is no copy', async () => {
  const log = () => undefined;
  const backends = { signingKey: undefined, secrets: new Map<string, string>(), now: Date.now, log };
  const common = { now: Date.now, log, maxAgeMs: 1_000 };
  const knowledge = new Knowledge({
    // As it was read some seconds ago.
    fleet: new Cached({
      ...common,
      name: 'fleet',
      read: async () => [heard('late', HEARTBEAT_SILENCE_MS + 100), heard('lately', 5_000)],
    }),
    catalogue: new Cached({ ...common, name: 'catalogue', read: async () => undefined }),
    health: new FleetHealth(),
    foreignLoads: new ForeignLoads(backends),
    waker: new Waker({ ...backends, mayWake: async () => false }),
  });
  const pending: Promise<unknown>[] = [];
  const waitUntil = (promise: Promise<unknown>) => void pending.push(promise);
  expect(knowledge.beats(waitUntil)).toBeUndefined();
  await Promise.all(pending);
  expect(knowledge.beats(waitUntil)?.map(({ beat }) => beat.replica)).toEqual(['lately']);
  expect((await knowledge.recent(waitUntil)).beats.map(({ beat }) => beat.replica)).toEqual(['lately']);
});
