import { describe, expect, it } from 'vitest';
import type { Outcome } from '../forward/outcome.ts';
import { chargeFor, reserveFor } from './tokens.ts';

describe('a reserve', () => {
  it.each([
    ['/v1/chat/completions', {}, 2_048, 2_058],
    ['/v1/chat/completions', { max_tokens: 5 }, 5, 15],
    ['/v1/chat/completions', { max_tokens: 5, max_completion_tokens: 7, n: 3 }, 7, 31],
    ['/v1/chat/completions', { max_tokens: null }, 2_048, 2_058],
    ['/v1/completions', { prompt: 'a' }, 16, 26],
    ['/v1/completions', { prompt: ['a', 'b'], max_tokens: 5, n: 2 }, 5, 30],
    ['/v1/completions', { prompt: [1, 2, 3], max_tokens: 5 }, 5, 15],
    ['/v1/completions', { prompt: [[1], [2], [3]], max_tokens: 0 }, 0, 10],
  ] as const)('of %s with %j', (path, body, answerTokens, tokens) => {
    expect(reserveFor({ path, body, promptTokens: 10 })).toEqual({ answerTokens, tokens });
  });
});

describe('a charge', () => {
  const usage = (promptTokens: number | undefined, completionTokens: number) =>
    ({ promptTokens, completionTokens, cachedTokens: undefined, countedBy: 'region' }) as const;
  it.each([
    ['whole', usage(7, 3), 10],
    ['left', usage(undefined, 3), 13],
    ['broken', usage(7, 3), 10],
    ['whole', undefined, 10],
    ['left', undefined, 10],
    ['broken', undefined, 0],
    ['refused', undefined, 0],
    ['failed', undefined, 0],
  ] as const)('for an answer that ended %s with %j', (ending, counted, tokens) => {
    expect(chargeFor({ ending, usage: counted } as Outcome, 10)).toBe(tokens);
  });
});
