import type { Heartbeat } from '@signpost/contracts';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { networkPrior } from './network.ts';
import { planRegions } from './plan.ts';
import { type Region, regionsSchema } from './regions.ts';

const FRANKFURT = { latitude: 50.1, longitude: 8.7, continent: 'EU' };
const VIRGINIA = { latitude: 38.9, longitude: -77.4, continent: 'NA' };
const SYDNEY = { latitude: -33.9, longitude: 151.2, continent: 'OC' };

const region = (name: string, place: object): Region => ({ name, url: `https://${name}.example`, ...place });
const REGIONS = [region('sydney', SYDNEY), region('virginia', VIRGINIA), region('frankfurt', FRANKFURT)];
const names = (plan: ReturnType<typeof planRegions>) => plan.map((planned) => planned.region.name);

describe('the plan', () => {
  it('goes to the nearest region first', () => {
    expect(names(planRegions(REGIONS, { latitude: 48.9, longitude: 2.3 }, undefined, []))).toEqual([
      'frankfurt',
      'virginia',
      'sydney',
    ]);
    expect(names(planRegions(REGIONS, { continent: 'OC' }, undefined, []))[0]).toBe('sydney');
  });

  it('keeps to the regions a rule allows', () => {
    expect(names(planRegions(REGIONS, FRANKFURT, ['sydney', 'virginia'], []))).toEqual(['virginia', 'sydney']);
  });

  it('keeps the configured order where nothing is known', () => {
    expect(names(planRegions(REGIONS, {}, undefined, []))).toEqual(['sydney', 'virginia', 'frankfurt']);
  });

  it('leaves a region that drains for last, and one of whose containers only some drain where it is', () => {
    const beat = (name: string, draining: boolean) => ({ beat: { region: name, draining } as Heartbeat, heardAt: 0 });
    const paris = { latitude: 48.9, longitude: 2.3 };
    const draining = [beat('frankfurt', true), beat('virginia', false)];
    expect(names(planRegions(REGIONS, paris, undefined, draining))).toEqual(['virginia', 'sydney', 'frankfurt']);
    expect(names(planRegions(REGIONS, paris, undefined, [...draining, beat('frankfurt', false)]))[0]).toBe('frankfurt');
  });

  it('is a sum of explained terms', () => {
    for (const { terms, totalMs } of planRegions(REGIONS, FRANKFURT, undefined, [])) {
      expect(terms.reduce((sum, { ms }) => sum + ms, 0)).toBeCloseTo(totalMs, 9);
      for (const { why } of terms) expect(why).toMatch(/^about \d+ km$/);
    }
  });
});

describe('the network prior', () => {
  it('is near what is measured between cities', () => {
    // Round trips of public latency tables: Frankfurt–Virginia about 90 ms, Frankfurt–Sydney about 250 to 290 ms.
    expect(networkPrior(FRANKFURT, VIRGINIA).ms).toBeGreaterThan(70);
    expect(networkPrior(FRANKFURT, VIRGINIA).ms).toBeLessThan(130);
    expect(networkPrior(FRANKFURT, SYDNEY).ms).toBeGreaterThan(200);
    expect(networkPrior(FRANKFURT, SYDNEY).ms).toBeLessThan(320);
    expect(networkPrior(FRANKFURT, FRANKFURT).ms).toBeLessThan(10);
  });

  it('is the same both ways, finite, and never more than half round the world', () => {
    const place = fc.record({
      latitude: fc.double({ min: -90, max: 90, noNaN: true }),
      longitude: fc.double({ min: -180, max: 180, noNaN: true }),
    });
    fc.assert(
      fc.property(place, place, (a, b) => {
        const { ms } = networkPrior(a, b);
        expect(ms).toBeCloseTo(networkPrior(b, a).ms, 6);
        expect(ms >= 3 && ms < 330).toBe(true);
      }),
    );
  });

  it('says what it does not know', () => {
    expect(networkPrior({}, FRANKFURT).why).toMatch(/app’s place is not known/);
    expect(networkPrior(FRANKFURT, {}).why).toMatch(/region states no place/);
    expect(networkPrior({ continent: 'EU' }, FRANKFURT).why).toMatch(/by continent/);
  });
});

describe('regions', () => {
  it.each([
    [[], /at least one region/],
    [[{ name: 'a', url: 'ftp://x' }], /http\(s\) URL/],
    [[{ name: 'a b', url: 'http://x' }], /letters, digits/],
    [[{ name: 'a', url: 'http://x', latitude: 1 }], /go together/],
    [[{ name: 'a', url: 'http://x', continent: 'XX' }], /continent/],
    [[{ name: 'a', url: 'http://x', weight: 1 }], /weight/],
    [['a', 'a'].map((name) => ({ name, url: 'http://x' })), /same name/],
  ])('that make no sense are refused: %j', (regions, message) => {
    expect(() => regionsSchema.parse(regions)).toThrow(message);
  });

  it('lose slashes at the end of their URL', () => {
    expect(regionsSchema.parse([{ name: 'a', url: 'https://x.example/api//' }])[0]?.url).toBe('https://x.example/api');
  });
});
