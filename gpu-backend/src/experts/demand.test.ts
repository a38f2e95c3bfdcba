import fc from 'fast-check';
import { expect, it } from 'vitest';
import { Demand } from './demand.ts';
import { digestOf } from './fixtures.ts';

it('counts each request half after every half-life of further ones', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 50 }), fc.array(fc.nat(5), { maxLength: 200 }), (halfLife, requests) => {
      const demand = new Demand(halfLife);
      for (const name of requests) demand.count(digestOf(name), false);
      for (let name = 0; name <= 5; name++) {
        const ages = requests.flatMap((asked, i) => (asked === name ? [requests.length - 1 - i] : []));
        const expected = ages.reduce((sum, age) => sum + 2 ** (-age / halfLife), 0);
        expect(demand.of(digestOf(name))).toBeCloseTo(expected, 9);
      }
    }),
  );
});

it('remembers what was found ready, and forgets who was asked for longest ago', () => {
  const demand = new Demand();
  demand.count(digestOf(1), false);
  demand.count(digestOf(1), true);
  expect(demand.usage(digestOf(1))).toMatchObject({ requests: 2, hits: 1 });
  for (let name = 2; name < 5_000; name++) demand.count(digestOf(name), false);
  expect(demand.usage(digestOf(1))).toBeUndefined();
  expect(demand.of(digestOf(1))).toBe(0);
  expect(demand.usage(digestOf(4_999))).toMatchObject({ requests: 1, hits: 0 });
});
