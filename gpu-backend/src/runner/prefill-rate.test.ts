import { expect, it } from 'vitest';
import { PrefillRate } from './prefill-rate.ts';

it('is that of full steps, whatever short prompts beside many answers took', () => {
  const rate = new PrefillRate();
  for (let i = 0; i < 4; i++) rate.add({ prefillTokens: 256, decodeTokens: 0, durationMs: 80 });
  for (let i = 0; i < 10; i++) rate.add({ prefillTokens: 8, decodeTokens: 32, durationMs: 20 });
  // 3,200 alone; 400 by the time of the whole step, 2,000 by their rows' share of it.
  expect(rate.tokensPerSecond).toBeGreaterThan(3_000);
  expect(rate.tokensPerSecond).toBeLessThanOrEqual(3_200);
});

it('follows a machine that has become slower', () => {
  const rate = new PrefillRate();
  for (let i = 0; i < 20; i++) rate.add({ prefillTokens: 256, decodeTokens: 0, durationMs: 80 });
  for (let i = 0; i < 20; i++) rate.add({ prefillTokens: 256, decodeTokens: 0, durationMs: 160 });
  expect(rate.tokensPerSecond).toBeCloseTo(1_600, -2);
});

it('is unknown before the first prompt', () => {
  const rate = new PrefillRate();
  rate.add({ prefillTokens: 0, decodeTokens: 4, durationMs: 10 });
  expect(rate.tokensPerSecond).toBeNull();
});
