import type { Heartbeat } from '@signpost/contracts';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { SentTokens } from './sent.ts';

const heard = (heardAt: number, prefillTokensPerSecond = 1_000) => ({
  beat: { region: 'eu', prefillTokensPerSecond } as unknown as Heartbeat,
  heardAt,
});

it('counts what was sent after the heartbeat, less what is computed since', () => {
  const sent = new SentTokens();
  sent.add(500, 900);
  sent.add(300, 1_000);
  sent.add(300, 1_100);
  expect(sent.waiting(heard(950), 1, 1_100)).toBe(500);
  expect(sent.waiting(heard(950), 1, 1_300)).toBe(300);
  expect(sent.waiting(heard(950), 1, 2_000)).toBe(0);
  expect(sent.waiting(heard(1_100), 1, 1_100)).toBe(0);
});

it('counts all that a region was sent of which nothing is heard, computed at the usual rate', () => {
  const sent = new SentTokens();
  sent.add(3_000, 0);
  expect(sent.waiting(undefined, 1, 0)).toBe(3_000);
  expect(sent.waiting(undefined, 1, 500)).toBe(2_000);
});

it('counts nothing that is answered, however slow the region says it is', () => {
  const sent = new SentTokens();
  sent.add(500, 1_000);
  sent.add(300, 1_000);
  sent.settle(500);
  expect(sent.waiting(heard(0, 1), 1, 1_000)).toBe(300);
  expect(sent.waiting(undefined, 1, 1_000)).toBe(300);
  sent.settle(300);
  expect(sent.waiting(heard(0, 1), 1, 1_000)).toBe(0);
});

it('shares it among the region’s containers', () => {
  const sent = new SentTokens();
  sent.add(400, 1_000);
  expect(sent.waiting(heard(0), 4, 1_000)).toBe(100);
});

it('is never less than nothing nor more than what was sent', () => {
  const sends = fc.array(fc.record({ afterMs: fc.nat(2_000), tokens: fc.nat(5_000) }), { maxLength: 50 });
  fc.assert(
    fc.property(sends, fc.nat(20_000), fc.integer({ min: 1, max: 10_000 }), (all, heardAt, rate) => {
      const sent = new SentTokens();
      let now = 0;
      for (const { afterMs, tokens } of all) {
        now += afterMs;
        sent.add(tokens, now);
      }
      const waiting = sent.waiting(heard(heardAt, rate), 1, now);
      expect(waiting).toBeGreaterThanOrEqual(0);
      expect(waiting).toBeLessThanOrEqual(all.reduce((sum, { tokens }) => sum + tokens, 0));
    }),
  );
});
