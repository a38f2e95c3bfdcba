import type { Heartbeat } from '@signpost/contracts';
import { describe, expect, it } from 'vitest';
import { FleetRoll } from './roll.ts';

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
