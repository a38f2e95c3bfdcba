import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type GenerationPath, readAsk, upstreamFields } from './ask.ts';

const post = (body: unknown) =>
  new Request('https://edge.example/', {
    method: 'POST',
    body: typeof body === 'string' ? body : JSON.stringify(body),
  });

describe('an ask', () => {
  it('looks at the last user message, parts joined, and at how the answer is to come', async () => {
    const ask = await readAsk(
      post({
        model: 'auto',
        stream: true,
        messages: [
          { role: 'user', content: 'first' },
          { role: 'assistant', content: 'answer' },
          {
            role: 'user',
            content: [
              { type: 'text', text: 'sec' },
              { type: 'text', text: 'ond' },
            ],
          },
          { role: 'system', content: 'be brief' },
        ],
      }),
      '/v1/chat/completions',
    );
    expect(ask).toMatchObject({ prompt: 'second', delivery: 'stream', model: 'auto', path: '/v1/chat/completions' });
  });

  it('of /v1/route is told apart by its fields, and its errors name what is wrong with the one meant', async () => {
    expect(await readAsk(post({ model: 'm', prompt: 'x' }), '/v1/route')).toMatchObject({ path: '/v1/completions' });
    await expect(readAsk(post({ model: 'm', prompt: 7 }), '/v1/route')).rejects.toMatchObject({ param: 'prompt' });
    await expect(readAsk(post({ model: 'm', messages: 7 }), '/v1/route')).rejects.toMatchObject({ param: 'messages' });
    await expect(readAsk(post('[]'), '/v1/route')).rejects.toMatchObject({ code: 'invalid_value' });
  });
});

describe('the body a region gets', () => {
  it.each([
    ['no system prompt', [], [{ role: 'system', content: 'Be brief.' }]],
    [
      'one',
      [{ role: 'system', content: 'You are kind.' }],
      [{ role: 'system', content: 'Be brief.\n\nYou are kind.' }],
    ],
    [
      'one in parts',
      [{ role: 'developer', content: [{ type: 'text', text: 'You are kind.' }] }],
      [
        {
          role: 'developer',
          content: [
            { type: 'text', text: 'Be brief.\n\n' },
            { type: 'text', text: 'You are kind.' },
          ],
        },
      ],
    ],
  ])('begins with the rule’s system prompt where the chat has %s', async (_, given, expected) => {
    const hi = { role: 'user', content: 'hi' };
    const ask = await readAsk(post({ model: 'auto', messages: [...given, hi] }), '/v1/chat/completions');
    const changes = { maxTokens: undefined, systemPrefix: 'Be brief.' };
    expect(upstreamFields(ask, 'math', changes).messages).toEqual([...expected, hi]);
    expect(upstreamFields(ask, 'math', { ...changes, systemPrefix: undefined }).messages).toEqual([...given, hi]);
  });

  const limit = fc.option(fc.integer({ min: 1, max: 1_000 }), { nil: undefined });

  it('never allows more tokens than the rule does, nor more than the app asked for', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom<GenerationPath>('/v1/chat/completions', '/v1/completions'),
        fc.record({ max_tokens: limit, max_completion_tokens: limit }),
        limit,
        async (path, asked, cap) => {
          const content = path === '/v1/completions' ? { prompt: 'x' } : { messages: [{ role: 'user', content: 'x' }] };
          const sent = { model: 'auto', ...content, ...asked, unknown_to_us: { kept: true } };
          const body = upstreamFields(await readAsk(post(sent), path), 'math', {
            maxTokens: cap,
            systemPrefix: undefined,
          });
          expect(body).toMatchObject({ model: 'math', ...content, unknown_to_us: { kept: true } });
          const effective = (from: typeof asked) =>
            path === '/v1/completions' ? from.max_tokens : (from.max_completion_tokens ?? from.max_tokens);
          const bounds = [effective(asked), cap].filter((bound) => bound !== undefined);
          expect(effective(body as typeof asked)).toBe(bounds.length === 0 ? undefined : Math.min(...bounds));
        },
      ),
    );
  });
});
