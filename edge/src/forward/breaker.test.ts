import { describe, expect, it } from 'vitest';
import { Breaker } from './breaker.ts';
import { FleetHealth } from './region-health.ts';

const failed = (breaker: Breaker, times: number, now = 0) => {
  for (let i = 0; i < times; i++) {
    breaker.begin(now);
    breaker.fail(now);
  }
};

describe('a breaker', () => {
  it('opens after five failures in a row, asks once whether the region is back, and waits longer each time it is not', () => {
    const breaker = new Breaker();
    failed(breaker, 4);
    breaker.begin(0);
    breaker.succeed();
    failed(breaker, 4);
    expect(breaker.state(0)).toBe('closed');
    failed(breaker, 1);
    expect([breaker.state(999), breaker.allows(999)]).toEqual(['open', false]);
    let now = 1_000;
    for (const pause of [2_000, 4_000, 8_000, 16_000, 30_000, 30_000]) {
      expect([breaker.state(now), breaker.allows(now)]).toEqual(['half-open', true]);
      breaker.begin(now);
      expect(breaker.allows(now)).toBe(false);
      breaker.fail(now);
      expect([breaker.allows(now + pause - 1), breaker.allows(now + pause)]).toEqual([false, true]);
      now += pause;
    }
    breaker.begin(now);
    breaker.succeed();
    expect(breaker.state(now)).toBe('closed');
    failed(breaker, 5, now);
    expect(breaker.allows(now + 1_000)).toBe(true);
  });

  it('opens for a region that fails half the time', () => {
    const breaker = new Breaker();
    for (let i = 0; i < 10; i++) {
      failed(breaker, 1);
      expect(breaker.state(0)).toBe('closed');
      breaker.begin(0);
      breaker.succeed();
    }
    failed(breaker, 1);
    expect(breaker.state(0)).toBe('open');
  });

  it('lets another request ask when the one that did has left, or never came back', () => {
    const breaker = new Breaker();
    failed(breaker, 5);
    breaker.begin(1_000);
    breaker.forget();
    expect(breaker.allows(1_000)).toBe(true);
    breaker.begin(1_000);
    expect([breaker.allows(60_999), breaker.allows(61_000)]).toEqual([false, true]);
  });
});

describe('what an isolate knows of its regions', () => {
  it('puts those that fail last, and keeps the order otherwise', () => {
    const health = new FleetHealth();
    const regions = ['a', 'b', 'c'].map((name) => ({ name }));
    failed(health.of('a').breaker, 5);
    expect(health.ordered(regions, 0).map(({ name }) => name)).toEqual(['b', 'c', 'a']);
    for (const name of ['b', 'c']) failed(health.of(name).breaker, 5);
    expect(health.ordered(regions, 0).map(({ name }) => name)).toEqual(['a', 'b', 'c']);
  });

  it('takes the least of the last five minutes for the network, and then knows nothing', () => {
    const region = new FleetHealth().of('a');
    expect(region.networkMs(0, 900)).toBeUndefined();
    region.measured(100, 60, 0);
    region.measured(900, 100, 1_000);
    expect([1_000, 300_500, 301_001].map((now) => region.networkMs(now, 900))).toEqual([40, 800, undefined]);
    region.measured(50, 60, 310_000);
    expect(region.networkMs(310_000, 0)).toBe(0);
  });

  it('doubts after half a minute that a region is further away than it should be', () => {
    const region = new FleetHealth().of('a');
    region.measured(900, 100, 0);
    expect([29_999, 30_000].map((now) => region.networkMs(now, 799))).toEqual([800, undefined]);
    region.measured(950, 100, 30_000);
    expect([30_000, 59_999, 60_000].map((now) => region.networkMs(now, 799))).toEqual([800, 800, undefined]);
  });

  it('knows after ten answers how long a first token usually takes at most', () => {
    const region = new FleetHealth().of('a');
    for (let i = 0; i < 9; i++) region.took(1_000);
    expect(region.hedgeAfterMs).toBeUndefined();
    region.took(2_000);
    expect(region.hedgeAfterMs).toBe(2_000);
    for (let i = 1; i <= 100; i++) region.took(i * 10);
    expect(region.hedgeAfterMs).toBe(950);
    for (let i = 0; i < 100; i++) region.took(1);
    expect(region.hedgeAfterMs).toBe(50);
  });
});
