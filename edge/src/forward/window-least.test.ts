import fc from 'fast-check';
import { expect, it } from 'vitest';
import { WindowLeast } from './window-least.ts';

it('is the least of the window, but for what came within a second of a lesser one', () => {
  const steps = fc.array(fc.record({ afterMs: fc.nat(3_000), value: fc.nat(100) }), { maxLength: 100 });
  fc.assert(
    fc.property(steps, (all) => {
      const window = new WindowLeast(10_000);
      const values: { at: number; value: number }[] = [];
      let now = 0;
      for (const { afterMs, value } of all) {
        now += afterMs;
        window.add(value, now);
        values.push({ at: now, value });
        const within = (ms: number) => values.filter(({ at }) => now - at < ms).map((one) => one.value);
        const least = window.least(now) ?? Number.POSITIVE_INFINITY;
        expect(least).toBeGreaterThanOrEqual(Math.min(...within(10_000)));
        expect(least).toBeLessThanOrEqual(Math.min(...within(9_000)));
      }
    }),
  );
});

it('is none once all are too old', () => {
  const window = new WindowLeast(10_000);
  window.add(5, 0);
  expect([window.least(9_999), window.least(10_000)]).toEqual([5, undefined]);
});
