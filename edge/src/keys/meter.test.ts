import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { LEASE_MS, Meter, type MeterStore, WINDOW_MS } from './meter.ts';
import type { Limits } from './record.ts';

const DAY_MS = 86_400_000;
const NOON = 20_000 * DAY_MS + DAY_MS / 2;

/** What is kept beyond a meter's life. */
class Kept implements MeterStore {
  readonly #entries = new Map<string, unknown>();
  list = () => structuredClone([...this.#entries]);
  put = (key: string, value: unknown) => void this.#entries.set(key, structuredClone(value));
  delete = (key: string) => void this.#entries.delete(key);
  get size() {
    return this.#entries.size;
  }
}

function create(limits: Limits) {
  const kept = new Kept();
  let lease = 0;
  const meter = new Meter(limits, kept);
  return { kept, meter, admit: (tokens: number, time: number) => meter.admit(String(lease++), tokens, time) };
}

const step = fc.record({
  /** Mostly close together, sometimes far apart, sometimes back. */
  afterMs: fc.oneof(
    { weight: 6, arbitrary: fc.integer({ min: 0, max: 3_000 }) },
    { weight: 2, arbitrary: fc.integer({ min: 0, max: 70_000 }) },
    { weight: 1, arbitrary: fc.integer({ min: 0, max: DAY_MS }) },
    { weight: 1, arbitrary: fc.integer({ min: -5_000, max: 0 }) },
  ),
  act: fc.oneof(
    {
      weight: 6,
      arbitrary: fc.record({ kind: fc.constant('admit' as const), tokens: fc.integer({ min: 0, max: 60 }) }),
    },
    {
      weight: 3,
      arbitrary: fc.record({
        kind: fc.constant('settle' as const),
        which: fc.nat(),
        share: fc.double({ min: 0, max: 1, noNaN: true }),
      }),
    },
    { weight: 2, arbitrary: fc.record({ kind: fc.constant('renew' as const), which: fc.nat() }) },
    { weight: 1, arbitrary: fc.constant({ kind: 'restart' as const }) },
  ),
});

describe('a meter', () => {
  it('never admits more than its limits, whatever comes in whatever order, over restarts, and refuses only for a reason', () => {
    fc.assert(
      fc.property(
        fc.record({
          requestsPerMinute: fc.option(fc.integer({ min: 1, max: 8 }), { nil: undefined }),
          tokensPerDay: fc.option(fc.integer({ min: 1, max: 300 }), { nil: undefined }),
          concurrency: fc.option(fc.integer({ min: 1, max: 4 }), { nil: undefined }),
        }),
        fc.array(step, { maxLength: 120 }),
        (limits, steps) => {
          const kept = new Kept();
          // A meter knows no time before it is told one.
          const meterAt = (time: number) => {
            const made = new Meter(limits, kept);
            made.standing(time);
            return made;
          };
          let now = NOON;
          let meter = meterAt(now);
          const admitted: number[] = [];
          // An oracle that keeps everything.
          const charges: { day: number; tokens: number; until: number; id: string; isOpen: boolean }[] = [];
          const open = () => charges.filter(({ isOpen }) => isOpen);
          const expire = () => {
            for (const charge of open()) if (charge.until <= now) charge.isOpen = false;
          };
          steps.forEach(({ afterMs, act }, i) => {
            // The meter stands still where the clock goes back; its restart forgets that it did, so ours doesn't go back then.
            const time = act.kind === 'restart' ? Math.max(now, now + afterMs) : now + afterMs;
            now = Math.max(now, time);
            expire();
            // Told of every step, also of those that come to nothing: its clock is ours.
            if (act.kind !== 'restart') meter.standing(time);
            switch (act.kind) {
              case 'admit': {
                const id = `r${i}`;
                const today = Math.floor(now / DAY_MS);
                const spent = charges.reduce((sum, { day, tokens }) => sum + (day === today ? tokens : 0), 0);
                const verdict = meter.admit(id, act.tokens, time);
                if (verdict.kind === 'admitted') {
                  admitted.push(now);
                  if (verdict.isLeased)
                    charges.push({ day: today, tokens: act.tokens, until: now + LEASE_MS, id, isOpen: true });
                  const inWindow = admitted.filter((at) => at > now - WINDOW_MS).length;
                  expect(inWindow).toBeLessThanOrEqual(limits.requestsPerMinute ?? Number.POSITIVE_INFINITY);
                  expect(open().length).toBeLessThanOrEqual(limits.concurrency ?? Number.POSITIVE_INFINITY);
                  expect(spent + act.tokens).toBeLessThanOrEqual(limits.tokensPerDay ?? Number.POSITIVE_INFINITY);
                } else if (verdict.by === 'requests') {
                  const nearWindow = admitted.filter((at) => at > now - WINDOW_MS - 1_000).length;
                  expect(nearWindow).toBeGreaterThanOrEqual(limits.requestsPerMinute ?? 0);
                } else if (verdict.by === 'concurrency') {
                  expect(open().length).toBe(limits.concurrency);
                } else {
                  expect(spent + act.tokens).toBeGreaterThan(limits.tokensPerDay ?? 0);
                }
                return;
              }
              case 'settle': {
                const charge = charges[act.which % Math.max(1, charges.length)];
                if (charge === undefined) return;
                const tokens = Math.floor(charge.tokens * act.share);
                meter.settle(charge.id, tokens, time);
                // Settled twice, or too late: nothing changes.
                if (!charge.isOpen) return;
                charge.isOpen = false;
                charge.tokens = tokens;
                return;
              }
              case 'renew': {
                const charge = charges[act.which % Math.max(1, charges.length)];
                if (charge === undefined) return;
                meter.renew(charge.id, time);
                if (charge.isOpen) charge.until = now + LEASE_MS;
                return;
              }
              case 'restart':
                meter = meterAt(time);
                return;
              default:
                act satisfies never;
            }
          });
          // Nothing grows with use: the window, the day, and what is under way.
          meter.standing(now);
          expire();
          expect(kept.size).toBeLessThanOrEqual(2 + open().length);
        },
      ),
      { numRuns: 500 },
    );
  });

  it('lets the next request in exactly when it says', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 10 }),
        fc.array(fc.integer({ min: 0, max: 20_000 }), { minLength: 1, maxLength: 40 }),
        (requestsPerMinute, gaps) => {
          const { meter, admit } = create({ requestsPerMinute });
          let now = NOON;
          for (const gap of gaps) {
            now += gap;
            const verdict = admit(1, now);
            if (verdict.kind === 'admitted') continue;
            const wait = verdict.retryAfterMs ?? Number.NaN;
            expect(wait).toBeGreaterThan(0);
            expect(wait).toBeLessThanOrEqual(WINDOW_MS + 1_000);
            // Asked a moment before, it is still refused (and isn't counted for it).
            expect(meter.admit('early', 1, now + wait - 1).kind).toBe('limited');
            now += wait;
            expect(admit(1, now).kind).toBe('admitted');
          }
        },
      ),
    );
  });

  it('tells what is left, and when all of it will be', () => {
    const { admit, meter } = create({ requestsPerMinute: 3, tokensPerDay: 100, concurrency: 2 });
    expect(meter.standing(NOON)).toEqual({
      requests: { limit: 3, remaining: 3, resetMs: 0 },
      tokens: { limit: 100, remaining: 100, resetMs: DAY_MS / 2 },
      concurrency: { limit: 2, remaining: 2 },
    });
    expect(admit(40, NOON + 200).standing).toEqual({
      requests: { limit: 3, remaining: 2, resetMs: 60_800 },
      tokens: { limit: 100, remaining: 60, resetMs: DAY_MS / 2 - 200 },
      concurrency: { limit: 2, remaining: 1 },
    });
    expect(admit(61, NOON + 300)).toMatchObject({ kind: 'limited', by: 'tokens', retryAfterMs: 1_000 });
    meter.settle('0', 100, NOON + 400);
    expect(admit(1, NOON + 500)).toMatchObject({ by: 'tokens', retryAfterMs: DAY_MS / 2 - 500 });
    // No wait makes it fit.
    expect(admit(101, NOON + 600)).toMatchObject({ by: 'tokens', retryAfterMs: undefined });
  });

  it('charges a request to the day it came in, and begins each UTC day anew', () => {
    const { admit, meter, kept } = create({ tokensPerDay: 100 });
    const midnight = NOON + DAY_MS / 2;
    admit(60, midnight - 2);
    admit(40, midnight - 1);
    expect(admit(1, midnight - 1).kind).toBe('limited');
    // Those that run on are yesterday's.
    expect(admit(100, midnight).kind).toBe('admitted');
    meter.settle('0', 60, midnight + 1);
    expect(meter.standing(midnight + 1).tokens?.remaining).toBe(0);
    meter.settle('3', 10, midnight + 2);
    expect(new Meter({ tokensPerDay: 100 }, kept).standing(midnight + 3).tokens?.remaining).toBe(90);
    expect(new Meter({ tokensPerDay: 100 }, kept).standing(midnight + DAY_MS).tokens?.remaining).toBe(100);
  });

  it('takes back the lease of one that is lost, charged in full, and leaves those alone that are renewed', () => {
    const { admit, meter } = create({ concurrency: 2, tokensPerDay: 100 });
    admit(30, NOON);
    admit(20, NOON);
    meter.renew('0', NOON + LEASE_MS - 1);
    expect(admit(1, NOON + LEASE_MS - 1).kind).toBe('limited');
    expect(meter.standing(NOON + LEASE_MS)).toMatchObject({ concurrency: { remaining: 1 }, tokens: { remaining: 50 } });
    // Whoever was taken for lost changes nothing any more.
    meter.settle('1', 0, NOON + LEASE_MS);
    meter.renew('1', NOON + LEASE_MS);
    expect(meter.standing(NOON + LEASE_MS)).toMatchObject({ concurrency: { remaining: 1 }, tokens: { remaining: 50 } });
    meter.settle('0', 5, NOON + LEASE_MS + 1);
    expect(meter.standing(NOON + LEASE_MS + 1)).toMatchObject({
      concurrency: { remaining: 2 },
      tokens: { remaining: 75 },
    });
  });

  it('counts a request once that is asked for twice with the same lease', () => {
    const { meter } = create({ concurrency: 1, requestsPerMinute: 5 });
    expect(meter.admit('a', 1, NOON).kind).toBe('admitted');
    expect(meter.admit('a', 1, NOON)).toMatchObject({ kind: 'admitted', standing: { requests: { remaining: 4 } } });
  });

  it('keeps as much for a limit of a million a minute as for one of sixty', () => {
    const { admit, kept } = create({ requestsPerMinute: 1_000_000 });
    for (let i = 0; i < 2_000; i++) expect(admit(1, NOON + i * 100).kind).toBe('admitted');
    const [[, window] = []] = kept.list();
    expect((window as unknown[]).length).toBeLessThanOrEqual(62);
  });
});
