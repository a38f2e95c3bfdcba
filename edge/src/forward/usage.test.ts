import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { askingForUsage, UsageWatch, usageIn } from './usage.ts';

describe('usage in an answer', () => {
  it('is the object that the answer has, whatever its texts say', () => {
    fc.assert(
      fc.property(
        fc.nat(),
        fc.nat(),
        fc.array(fc.oneof(fc.string(), fc.constantFrom('usage', '"usage":{"completion_tokens":1}', '{', '}', '\\'))),
        fc.constantFrom(undefined, 1),
        (prompt, completion, texts, space) => {
          const usage = { prompt_tokens: prompt, completion_tokens: completion, prompt_tokens_details: null };
          const answer = { choices: texts.map((content) => ({ message: { content } })), usage, prompt_token_ids: [1] };
          expect(usageIn(JSON.stringify(answer, undefined, space))).toEqual({
            promptTokens: prompt,
            completionTokens: completion,
            cachedTokens: undefined,
            countedBy: 'region',
          });
        },
      ),
    );
  });

  it('is none where there is none, without an end to the search', () => {
    for (const json of [
      '',
      '"usage"',
      '{"usage":null}',
      '{"usage":{}}',
      '{"usage":{"completion_tokens":"1"}}',
      '"usage":{'.repeat(9_999),
    ])
      expect(usageIn(json)).toBeUndefined();
  });
});

describe('a stream that is passed on unread', () => {
  const watched = (fields: object, ...events: string[]) => {
    const used: unknown[] = [];
    const watch = new UsageWatch({ ...fields }, (usage) => used.push(usage));
    return { passed: events.map((data) => watch.pass(data)), used, counted: watch.counted };
  };
  const text = '{"choices":[{"text":"\\"usage\\":null"}],"usage":null}';
  const total = '{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}';

  it('loses what only the edge asked for, and nothing else', () => {
    expect(watched({}, text, total, 'no chunk')).toMatchObject({
      passed: ['{"choices":[{"text":"\\"usage\\":null"}]}', undefined, 'no chunk'],
      used: [{ completionTokens: 2 }],
    });
    const asked = { stream_options: { include_usage: true } };
    expect(watched(asked, text, total)).toMatchObject({ passed: [text, total], counted: { completionTokens: 1 } });
    expect(askingForUsage(asked)).toBe(asked);
    expect(askingForUsage({ a: 1, stream_options: null })).toEqual({ a: 1, ...asked });
  });
});
