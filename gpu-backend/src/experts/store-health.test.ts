import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { digestOf } from './fixtures.ts';
import { SILENCE_MS, StoreHealth, TRIAL_EVERY_MS } from './store-health.ts';

beforeEach(() => vi.useFakeTimers());
afterEach(() => vi.useRealTimers());

const CHUNK = new Uint8Array(1);

function watched() {
  const silences: number[] = [];
  const clock = { aheadMs: 0 };
  const health = new StoreHealth(
    () => silences.push(performance.now()),
    () => performance.now() + clock.aheadMs,
  );
  /** A file's reading, and how bytes of it come. */
  const begin = (name: number) => {
    const reads = health.begins(digestOf(name));
    const options = reads.hearing({ onChunk: () => undefined });
    return {
      end: () => reads.end(),
      come: () => options.onChunk(CHUNK, 0),
      spoil: () => options.onMismatch?.('chunk'),
    };
  };
  return { health, silences, clock, begin };
}

describe('a store', () => {
  it('is down once nothing has come for a while that was waited for, and up with the first bytes, be they wrong', () => {
    for (const how of ['come', 'spoil'] as const) {
      const { health, silences, begin } = watched();
      const first = begin(1);
      vi.advanceTimersByTime(SILENCE_MS - 1_000);
      expect([health.isDown, silences.length]).toEqual([false, 0]);
      vi.advanceTimersByTime(1_500);
      expect([health.isDown, silences.length > 0]).toEqual([true, true]);
      first[how]();
      expect([health.isDown, health.refusal]).toEqual([false, undefined]);
    }
  });

  it('is not down where nothing is waited for, nor where something comes all the time', () => {
    const { health, begin } = watched();
    begin(1).end();
    vi.advanceTimersByTime(10 * SILENCE_MS);
    expect(health.isDown).toBe(false);
    begin(2);
    const other = begin(3);
    for (let i = 0; i < 10; i++) {
      vi.advanceTimersByTime(SILENCE_MS / 2);
      other.come();
    }
    expect(health.isDown).toBe(false);
  });

  it('is not taken to be down for what this thread had no time to hear', () => {
    const { health, clock, begin } = watched();
    const reading = begin(1);
    for (let step = 0; step < 5; step++) {
      // A step computes for longer than the store may be silent; then its timer comes first, and what has come behind.
      clock.aheadMs += 2 * SILENCE_MS;
      vi.advanceTimersByTime(500);
      expect(health.isDown).toBe(false);
      reading.come();
    }
  });

  it('that is down is tried now and then, and by nobody else', () => {
    const { health, begin } = watched();
    begin(1);
    vi.advanceTimersByTime(SILENCE_MS + 1_000);
    expect(health.refusal).toBeUndefined();
    begin(2);
    expect(health.refusal).toMatch(/nothing has come from the store/);
    vi.advanceTimersByTime(TRIAL_EVERY_MS - 1);
    expect(health.refusal).toBeDefined();
    vi.advanceTimersByTime(1);
    expect(health.refusal).toBeUndefined();
  });

  it('that is down leaves those hopeless of which nothing has come of late', () => {
    const { health, begin } = watched();
    begin(1);
    const half = begin(2);
    vi.advanceTimersByTime(3_000);
    expect(health.isHopeless(digestOf(1))).toBe(false);
    half.come();
    vi.advanceTimersByTime(SILENCE_MS + 500);
    begin(3);
    expect([1, 2, 3, 4].map((name) => health.isHopeless(digestOf(name)))).toEqual([true, true, false, false]);
    half.end();
    expect(health.isHopeless(digestOf(2))).toBe(false);
  });
});
