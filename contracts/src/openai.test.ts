import { describe, expect, it } from 'vitest';
import { ApiError, chatRequestSchema, completionRequestSchema, MAX_BODY_BYTES, readBody } from './openai.ts';
import { Problem } from './problem.ts';

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
    ['several answers', { ...hello, n: 2 }, 'invalid_value', 'n'],
    ['tools', { ...hello, tools: [{}] }, 'invalid_value', 'tools'],
    ['a penalty that would be ignored', { ...hello, frequency_penalty: 1 }, 'invalid_value', 'frequency_penalty'],
  ])('with %s are refused by the field', async (_, body, code, param) => {
    const error = await refusal(body);
    expect([error.status, error.code]).toEqual([400, code]);
    if (param !== undefined) expect(error.param).toBe(param);
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
