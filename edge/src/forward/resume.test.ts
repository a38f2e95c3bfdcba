import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ResumableAnswer } from './resume.ts';

const begin = (more: object = {}) => {
  const answer = ResumableAnswer.of({
    method: 'POST',
    path: '/v1/chat/completions',
    fields: { model: 'math', messages: [], ...more },
    delivery: 'stream',
    tenant: undefined,
    headers: {},
    signal: new AbortController().signal,
  });
  if (answer === undefined) throw new Error('this can be resumed');
  return answer;
};

/** Texts that look like what is looked for. */
const tricky = fc.constantFrom(
  ',"token_ids":[7]',
  '"finish_reason":null',
  '\\",\\"token_ids\\":[',
  '"usage":{',
  ',"usage":null',
  '"prompt_token_ids"',
);
const text = fc.array(fc.oneof(fc.string(), tricky), { maxLength: 4 }).map((parts) => parts.join(''));
const chunk = fc.record({ text, ids: fc.array(fc.nat(200_000), { maxLength: 3 }), usage: fc.boolean() });

const written = (
  { text: content, ids, usage }: { text: string; ids: number[]; usage: boolean },
  more: object = {},
) => ({
  id: 'a',
  created: 5,
  model: 'm',
  choices: [{ index: 0, delta: { content }, logprobs: null, finish_reason: null, token_ids: ids, ...more }],
  ...(usage ? { usage: null } : {}),
});

describe('an answer that can be gone on with', () => {
  it.each([
    ['nothing more', {}],
    ['tokens', { return_token_ids: true }],
    ['usage', { stream_options: { include_usage: true } }],
  ])('passes chunks as the app asked for them (%s), whatever is in them, and knows their tokens', (_, asked) => {
    fc.assert(
      fc.property(fc.array(chunk, { minLength: 2, maxLength: 6 }), (chunks) => {
        const answer = begin(asked);
        for (const [i, one] of chunks.entries()) {
          const sent = { ...written(one), ...(i === 0 ? { prompt_token_ids: [1, 2] } : {}) };
          const passed = JSON.parse(answer.pass(JSON.stringify(sent)) ?? '');
          const expected = structuredClone(sent) as {
            choices: { token_ids?: number[] }[];
            usage?: null;
            prompt_token_ids?: number[];
          };
          if (!('return_token_ids' in asked)) {
            for (const choice of expected.choices) delete choice.token_ids;
            delete expected.prompt_token_ids;
          }
          if (!('stream_options' in asked)) delete expected.usage;
          expect(passed).toEqual(expected);
        }
        const ids = chunks.flatMap((one) => one.ids);
        expect(answer.rest(undefined).resume_token_ids).toEqual(ids);
        expect(answer.counted).toEqual({ promptTokens: 2, completionTokens: ids.length });
      }),
    );
  });

  it('goes on under the name that it began with', () => {
    const answer = begin();
    const one = { text: 'x', ids: [1], usage: false };
    answer.pass(JSON.stringify(written(one)));
    answer.rest(undefined);
    const other = { ...written({ ...one, ids: [2] }), id: 'b', created: 9 };
    expect(JSON.parse(answer.pass(JSON.stringify(other)) ?? '')).toMatchObject({ id: 'a', created: 5 });
    expect(answer.rest(undefined).resume_token_ids).toEqual([1, 2]);
  });

  it('passes nothing of what comes after its end but the usage that was asked for', () => {
    const answer = begin({ stream_options: { include_usage: true } });
    const one = { text: 'x', ids: [1], usage: false };
    answer.pass(JSON.stringify(written(one)));
    expect(answer.pass(JSON.stringify(written(one, { finish_reason: 'stop' })))).toBeDefined();
    expect(answer.pass(JSON.stringify(written(one)))).toBeUndefined();
    expect(answer.isComplete).toBe(false);
    const usage = { prompt_tokens: 1, completion_tokens: 2, total_tokens: 3 };
    expect(JSON.parse(answer.pass(JSON.stringify({ ...written(one), choices: [], usage })) ?? '')).toMatchObject({
      usage,
    });
    expect(answer.isComplete).toBe(true);
  });
});
