import { HEARTBEAT_SILENCE_MS } from '@signpost/contracts';
import { expect, it } from 'vitest';
import type { HeardBeat } from '../fleet/roll.ts';
import type { Region } from '../plan/regions.ts';
import { type SignsOfLife, Waker } from './waker.ts';

const wake = { url: 'http://127.0.0.1:2', usualMs: 1 };
const hooked = { name: 'zero', url: 'http://127.0.0.1:1', wake };
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
  const unknown: SignsOfLife = { beats: [], sinceFailedMs: undefined, foreignLoad: () => undefined };
  const isAsleep = (region: Region, signs: Partial<SignsOfLife>) => waker.isAsleep(region, { ...unknown, ...signs });
  return { isAsleep, clock };
}

it('takes a region to sleep that is missing among the heartbeats for as long as they count', () => {
  const { isAsleep, clock } = begin();
  expect(isAsleep(hooked, { beats: [] })).toBe(false);
  clock.now += HEARTBEAT_SILENCE_MS - 1;
  expect(isAsleep(hooked, { beats: [] })).toBe(false);
  clock.now += 1;
  expect(isAsleep(hooked, { beats: [] })).toBe(true);
  expect(isAsleep(hooked, { beats: heard })).toBe(false);
  // And from then on anew.
  expect(isAsleep(hooked, { beats: [] })).toBe(false);
});

it('takes one to sleep at once that is missing and has just failed', () => {
  const { isAsleep } = begin();
  expect(isAsleep(hooked, { beats: [], sinceFailedMs: 0 })).toBe(true);
  expect(isAsleep(hooked, { beats: heard, sinceFailedMs: 0 })).toBe(false);
});

it('takes none to sleep that has no hook, or while nobody can say who was heard', () => {
  const { isAsleep } = begin();
  const { wake: _, ...plain } = hooked;
  expect(isAsleep(plain, { beats: [], sinceFailedMs: 0 })).toBe(false);
  expect(isAsleep(hooked, { beats: undefined, sinceFailedMs: 0 })).toBe(false);
});

it('takes a stranger to sleep for a moment after it has failed, unless its metrics show that it runs', () => {
  const { isAsleep, clock } = begin();
  const stranger = { name: 'team', kind: 'openai' as const, url: 'http://127.0.0.1:1', models: { base: 'b' }, wake };
  const { wake: _, ...plain } = stranger;
  for (const beats of [[], undefined]) {
    expect(isAsleep(stranger, { beats, sinceFailedMs: 0 })).toBe(true);
    expect(isAsleep(stranger, { beats, sinceFailedMs: 4_999 })).toBe(true);
    expect(isAsleep(stranger, { beats, sinceFailedMs: 5_000 })).toBe(false);
  }
  expect(isAsleep(stranger, { sinceFailedMs: 0, foreignLoad: () => ({ waiting: 0, running: 0 }) })).toBe(false);
  expect(isAsleep(plain, { sinceFailedMs: 0 })).toBe(false);
  // That nobody hears of it says nothing.
  expect(isAsleep(stranger, {})).toBe(false);
  clock.now += HEARTBEAT_SILENCE_MS;
  expect(isAsleep(stranger, {})).toBe(false);
});
