import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ApiError, MAX_BODY_BYTES, readBody } from '../openai.ts';
import { Problem } from '../problem.ts';
import { chatRequestSchema } from './chat.ts';
import { completionRequestSchema } from './completions.ts';

const post = (body: string) => new Request('http://x/', { method: 'POST', body });
const hello = { model: 'base', messages: [{ role: 'user', content: 'hi' }] };

async function refusal(body: unknown): Promise<ApiError> {
  const text = typeof body === 'string' ? body : JSON.stringify(body);
  try {
    await readBody(post(text), chatRequestSchema);
  } catch (error) {
    if (error instanceof ApiError) return error;
    throw error;
  }
  throw new Error(`accepted: ${text.slice(0, 100)}`);
}

describe('request bodies', () => {
  it('are read with text parts joined and "developer" taken for "system"', async () => {
    const messages = [
      {
        role: 'developer',
        content: [
          { type: 'text', text: 'be ' },
          { type: 'text', text: 'brief' },
        ],
      },
    ];
    const { value } = await readBody(post(JSON.stringify({ model: 'base', messages })), chatRequestSchema);
    expect(value.messages).toEqual([{ role: 'system', content: 'be brief' }]);
  });

  it.each([
    ['no JSON', '{', 'invalid_json', undefined],
    ['no messages', { ...hello, messages: [] }, 'invalid_value', 'messages'],
    [
      'an image',
      { ...hello, messages: [{ role: 'user', content: [{ type: 'image_url' }] }] },
      'invalid_value',
      undefined,
    ],
    ['a temperature out of range', { ...hello, temperature: 3 }, 'invalid_value', 'temperature'],
    ['too many answers', { ...hello, n: 17 }, 'invalid_value', 'n'],
    ['best_of', { ...hello, best_of: 2 }, 'invalid_value', 'best_of'],
    ['old functions', { ...hello, functions: [{ name: 'f' }] }, 'invalid_value', 'functions'],
    ['sound', { ...hello, modalities: ['text', 'audio'] }, 'invalid_value', 'modalities'],
    ['a tool of another kind', { ...hello, tools: [{ type: 'web_search' }] }, 'invalid_value', 'tools.0.type'],
    ['a tool to be called that is not there', { ...hello, tool_choice: 'required' }, 'invalid_value', 'tool_choice'],
    ['a biased token that is none', { ...hello, logit_bias: { a: 1 } }, 'invalid_value', 'logit_bias.a'],
    ['top_logprobs alone', { ...hello, top_logprobs: 3 }, 'invalid_value', 'top_logprobs'],
    [
      'two formats',
      { ...hello, response_format: { type: 'json_object' }, guided_regex: 'a' },
      'invalid_value',
      'guided_regex',
    ],
    ['an answer to resume without its seed', { ...hello, resume_token_ids: [1] }, 'invalid_value', 'resume_token_ids'],
    [
      'several answers to resume',
      { ...hello, n: 2, seed: 1, resume_token_ids: [1] },
      'invalid_value',
      'resume_token_ids',
    ],
    [
      'a silent assistant',
      { ...hello, messages: [{ role: 'assistant', content: null }] },
      'invalid_value',
      'messages.0.content',
    ],
  ])('with %s are refused by the field', async (_, body, code, param) => {
    const error = await refusal(body);
    expect([error.status, error.code]).toEqual([400, code]);
    if (param !== undefined) expect(error.param).toBe(param);
  });

  it('may have tools and their answers, and fields that change nothing', async () => {
    const calls = [{ id: 'a', type: 'function', function: { name: 'now', arguments: '{}' } }];
    const body = {
      ...hello,
      messages: [
        { role: 'user', content: 'x' },
        { role: 'assistant', content: null, tool_calls: calls },
        { role: 'tool', tool_call_id: 'a', content: '12:00' },
      ],
      tools: [{ type: 'function', function: { name: 'now' } }],
      tool_choice: { type: 'function', function: { name: 'now' } },
      best_of: 1,
      modalities: ['text'],
      user: 'me',
    };
    const { value } = await readBody(post(JSON.stringify(body)), chatRequestSchema);
    expect(value.messages[1]).toEqual({ role: 'assistant', content: '', tool_calls: calls });
  });

  it('beyond the size limit are refused while they arrive', async () => {
    expect((await refusal('x'.repeat(MAX_BODY_BYTES + 1))).status).toBe(413);
  });

  it('may give a prompt as token ids', async () => {
    const { value } = await readBody(
      post('{"model":"base","prompt":[1,2],"max_tokens":0,"echo":true,"logprobs":0}'),
      completionRequestSchema,
    );
    expect(value).toMatchObject({ prompt: [1, 2], max_tokens: 0, echo: true, logprobs: 0 });
  });
});

it('errors keep their cause from the caller unless the caller can mend it', () => {
  expect(ApiError.from(new Problem('x is wrong')).body().error).toMatchObject({
    message: 'x is wrong',
    type: 'invalid_request_error',
  });
  expect(ApiError.from(new Error('secret')).body().error.message).not.toContain('secret');
});

describe('a schema for the fields that are there', () => {
  const value = fc.oneof(
    fc.constantFrom<unknown>(
      null,
      true,
      false,
      0,
      1,
      -1,
      2,
      0.5,
      1e9,
      '',
      'auto',
      'required',
      'text',
      [],
      {},
      [1],
      ['x'],
    ),
    fc.constantFrom<unknown>({ type: 'json_object' }, { include_usage: true }, [{ role: 'user', content: 'hi' }], [{}]),
  );
  for (const [name, schema] of Object.entries({ chat: chatRequestSchema, completion: completionRequestSchema })) {
    const fields = fc.constantFrom(...Object.keys(schema.shape), 'unheard_of');
    const good: Record<string, unknown> = { ...hello, prompt: 'hi' };
    it(`comes to the same as the whole one (${name})`, () => {
      fc.assert(
        fc.property(fc.dictionary(fields, value, { maxKeys: 5 }), fc.boolean(), (some, isSound) => {
          const body = isSound ? { ...good, ...some } : some;
          const [own, whole] = [schema.sparse(body).safeParse(body), schema.safeParse(body)];
          expect(own.data).toEqual(whole.data);
          expect(own.error?.issues).toEqual(whole.error?.issues);
        }),
        { numRuns: 500 },
      );
    });
  }

  it('is for bodies that are objects', () => {
    for (const body of [null, 1, 'x', [], undefined])
      expect(chatRequestSchema.sparse(body).safeParse(body).success).toBe(false);
  });
});
