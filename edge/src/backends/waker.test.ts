import { HEARTBEAT_SILENCE_MS } from '@signpost/contracts';
import { expect, it } from 'vitest';
import type { HeardBeat } from '../fleet/roll.ts';
import { Waker } from './waker.ts';

const hooked = { name: 'zero', url: 'http://127.0.0.1:1', wake: { url: 'http://127.0.0.1:2', usualMs: 1 } };
const heard = [{ beat: { region: 'zero' }, heardAt: 0 }] as unknown as HeardBeat[];

function begin() {
  const clock = { now: 1_000 };
  const waker = new Waker({
    secrets: new Map(),
    signingKey: undefined,
    mayWake: async () => true,
    now: () => clock.now,
    log: () => undefined,
  });
  return { waker, clock };
}

it('takes a region to sleep that is missing among the heartbeats for as long as they count', () => {
  const { waker, clock } = begin();
  expect(waker.isAsleep(hooked, [], 'untried')).toBe(false);
  clock.now += HEARTBEAT_SILENCE_MS - 1;
  expect(waker.isAsleep(hooked, [], 'untried')).toBe(false);
  clock.now += 1;
  expect(waker.isAsleep(hooked, [], 'untried')).toBe(true);
  expect(waker.isAsleep(hooked, heard, 'untried')).toBe(false);
  // And from then on anew.
  expect(waker.isAsleep(hooked, [], 'untried')).toBe(false);
});

it('takes one to sleep at once that is missing and has just failed', () => {
  const { waker } = begin();
  expect(waker.isAsleep(hooked, [], 'failing')).toBe(true);
  expect(waker.isAsleep(hooked, heard, 'failing')).toBe(false);
});

it('takes none to sleep that has no hook, or while nobody can say who was heard', () => {
  const { waker } = begin();
  const { wake: _, ...plain } = hooked;
  expect(waker.isAsleep(plain, [], 'failing')).toBe(false);
  expect(waker.isAsleep(hooked, undefined, 'failing')).toBe(false);
});
