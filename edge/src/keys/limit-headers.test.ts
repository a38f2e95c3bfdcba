import { expect, it } from 'vitest';
import { duration, limitHeaders, limitReached } from './limit-headers.ts';

it.each([
  [0, '0s'],
  [0.2, '1ms'],
  [250, '250ms'],
  [1_000, '1s'],
  [1_001, '2s'],
  [59_999, '1m0s'],
  [360_000, '6m0s'],
  [3_600_000, '1h0m0s'],
  [86_399_000, '23h59m59s'],
])('%d ms are %s', (ms, text) => expect(duration(ms)).toBe(text));

const standing = {
  requests: { limit: 60, remaining: 0, resetMs: 60_100 },
  tokens: { limit: 1_000, remaining: 250, resetMs: 3_600_000 },
};

it('tells requests and tokens under OpenAI’s names', () => {
  expect(limitHeaders(standing)).toEqual({
    'x-ratelimit-limit-requests': '60',
    'x-ratelimit-remaining-requests': '0',
    'x-ratelimit-reset-requests': '1m1s',
    'x-ratelimit-limit-tokens': '1000',
    'x-ratelimit-remaining-tokens': '250',
    'x-ratelimit-reset-tokens': '1h0m0s',
  });
  expect(limitHeaders({})).toEqual({});
});

it('a refusal says what was asked, what is left, and when to come back', async () => {
  const requests = limitReached({ kind: 'limited', by: 'requests', retryAfterMs: 1_500, standing }, 5).toResponse();
  expect([requests.status, requests.headers.get('retry-after'), requests.headers.get('x-should-retry')]).toEqual([
    429,
    '2',
    null,
  ]);
  expect(await requests.json()).toEqual({
    error: {
      message: 'this API key may make 60 requests a minute, and has; try again in 2s',
      type: 'rate_limit_error',
      param: null,
      code: 'rate_limit_exceeded',
    },
  });
  const tokens = limitReached({ kind: 'limited', by: 'tokens', retryAfterMs: 3_600_000, standing }, 300).toResponse();
  expect([tokens.headers.get('retry-after'), tokens.headers.get('x-should-retry')]).toEqual(['3600', 'false']);
  expect(((await tokens.json()) as { error: unknown }).error).toMatchObject({
    code: 'insufficient_quota',
    message: expect.stringMatching(
      /may come to 300 tokens.*of the 1000 .*250 are left until 00:00 UTC, in 1h0m0s; a smaller/,
    ),
  });
});
