import { ApiError } from '@signpost/contracts';
import { describe, expect, it } from 'vitest';
import { Admission } from './admission.ts';

function setup(limits: { maxRequests: number; maxQueuedTokens: number }) {
  let ms = 0;
  const admission = new Admission(limits, () => ms);
  const wait = (seconds: number) => {
    ms += seconds * 1000;
  };
  /** What a refused request is told; undefined when it was taken. */
  const refusal = (tokens: number): ApiError | undefined => {
    try {
      admission.enter(tokens);
    } catch (error) {
      if (error instanceof ApiError) return error;
      throw error;
    }
    return undefined;
  };
  return { admission, wait, refusal };
}

describe('admission', () => {
  it('refuses requests beyond the cap, until one leaves; leaving twice makes room once', () => {
    const { admission, refusal } = setup({ maxRequests: 2, maxQueuedTokens: 100 });
    const ticket = admission.enter(1);
    admission.enter(1);
    expect(refusal(1)).toMatchObject({ status: 429, code: 'region_full', retryAfterSeconds: 1 });
    ticket.leave();
    ticket.leave();
    expect(refusal(1)).toBeUndefined();
    expect(refusal(1)?.message).toMatch(/2 requests in flight/);
  });

  it('refuses prompts that would wait behind too many tokens, but not the first, nor once they have begun', () => {
    const { admission, refusal } = setup({ maxRequests: 9, maxQueuedTokens: 100 });
    const long = admission.enter(500);
    expect(refusal(1)?.message).toMatch(/500 prompt tokens wait in this region, which takes 100; yours has 1/);
    long.start();
    const next = admission.enter(60);
    expect(refusal(41)).toBeDefined();
    next.leave();
    expect(refusal(100)).toBeUndefined();
  });

  it('says to come back when, at the rate measured while there was work, there is room', () => {
    const { admission, wait, refusal } = setup({ maxRequests: 4, maxQueuedTokens: 1_000 });
    // One request in two seconds, of 200 tokens: for a minute, then nothing for an hour.
    for (let i = 0; i < 30; i++) {
      const ticket = admission.enter(200);
      wait(1);
      ticket.start();
      wait(1);
      ticket.leave();
    }
    wait(3_600);
    const waiting = [400, 400, 200].map((tokens) => admission.enter(tokens));
    // 300 tokens too many at 100 a second.
    expect(refusal(300)?.retryAfterSeconds).toBeGreaterThanOrEqual(3);
    expect(refusal(300)?.retryAfterSeconds).toBeLessThanOrEqual(4);
    for (const ticket of waiting) ticket.start();
    admission.enter(1);
    // One place at one in two seconds.
    expect(refusal(1)?.retryAfterSeconds).toBeGreaterThanOrEqual(2);
    expect(refusal(1)?.retryAfterSeconds).toBeLessThanOrEqual(3);
  });

  it('never says more than a minute', () => {
    const { admission, wait, refusal } = setup({ maxRequests: 1, maxQueuedTokens: 10 });
    const slow = admission.enter(1);
    wait(1_000);
    slow.leave();
    admission.enter(1);
    expect(refusal(1)?.retryAfterSeconds).toBe(60);
  });
});
