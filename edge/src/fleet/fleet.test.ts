import type { Heartbeat } from '@signpost/contracts';
import { describe, expect, it } from 'vitest';
import { FleetRoll, type HeardBeat } from './roll.ts';
import { FleetView } from './view.ts';

const beat = (replica: string, sentAt: number) => ({ region: 'eu', replica, sentAt }) as Heartbeat;

describe('the roll', () => {
  it('keeps the latest of each container, however they arrive', () => {
    const roll = new FleetRoll();
    expect([beat('a', 5), beat('a', 4), beat('a', 5), beat('b', 1)].map((one) => roll.hear(one, 100))).toEqual([
      true,
      false,
      false,
      true,
    ]);
    expect(roll.current(100).map(({ beat: { replica, sentAt } }) => [replica, sentAt])).toEqual([
      ['a', 5],
      ['b', 1],
    ]);
  });

  it('forgets a container that has said nothing for ten seconds, by the clock of who listens', () => {
    const roll = new FleetRoll();
    roll.hear(beat('a', 9e12), 0);
    roll.hear(beat('b', 1), 6_000);
    expect(roll.current(10_000)).toHaveLength(2);
    expect(roll.current(10_001).map((heard) => heard.beat.replica)).toEqual(['b']);
  });
});

describe('an isolate’s view', () => {
  function viewed(read: () => Promise<readonly HeardBeat[]>) {
    const clock = { now: 0 };
    const pending: Promise<unknown>[] = [];
    const logged: string[] = [];
    const view = new FleetView({ read, now: () => clock.now, log: (event) => logged.push(event) });
    const look = () => view.current((promise) => pending.push(promise)).map(({ beat: { replica } }) => replica);
    return { clock, pending, logged, look };
  }

  it('is read beside the request that finds it old, once a second', async () => {
    let reads = 0;
    const { clock, pending, look } = viewed(async () => [{ beat: beat(String(++reads), 1), heardAt: 0 }]);
    expect([look(), look()]).toEqual([[], []]);
    await Promise.all(pending);
    clock.now = 999;
    expect(look()).toEqual(['1']);
    clock.now = 1_000;
    expect(look()).toEqual(['1']);
    await Promise.all(pending);
    expect([look(), reads]).toEqual([['2'], 2]);
  });

  it('stays as it was when it can not be read, and a read that is lost does not stop the next', async () => {
    const answers: (() => Promise<readonly HeardBeat[]>)[] = [
      async () => [{ beat: beat('a', 1), heardAt: 0 }],
      async () => {
        throw new Error('overloaded');
      },
      () => new Promise(() => undefined),
      async () => [],
    ];
    const { clock, pending, logged, look } = viewed(() => (answers.shift() ?? (async () => []))());
    look();
    await Promise.all(pending);
    clock.now = 1_000;
    look();
    await Promise.all(pending);
    expect([look(), logged]).toEqual([['a'], ['fleet_unreadable']]);
    clock.now = 5_999;
    look();
    expect(answers).toHaveLength(1);
    clock.now = 7_000;
    look();
    await pending.at(-1);
    expect(look()).toEqual([]);
  });
});
