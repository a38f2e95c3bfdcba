import { decide } from '@signpost/contracts';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parseRulesText } from '../rules/parse.ts';
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

describe('a rule over prompts', () => {
  const { rules } = parseRulesText(
    `
version: 1
rules:
  - name: no-secrets
    when:
      any:
        - { prompt: "BEGIN (RSA|OPENSSH) PRIVATE KEY" }
        - { promptChars: { min: 32769 } }
        - { body: { prompt.0: { min: 0 } } }
        - { body: { prompt.0.0: { min: 0 } } }
    then: { refuse: "can't tell that it holds no private key" }
  - { name: rest, then: { model: base } }
`,
    'rules',
  );
  const KEY = '-----BEGIN RSA PRIVATE KEY-----';
  const ruleFor = async (prompt: unknown) => {
    const ask = await readAsk(post({ model: 'auto', prompt }), '/v1/completions');
    const nowhere = { continent: undefined, country: undefined, colo: undefined };
    const facts = { ...ask, ...nowhere, tenant: undefined, headers: new Headers(), now: 0, classification: undefined };
    return decide({ version: 1, rules }, facts).rule;
  };

  it('sees every text of a list', async () => {
    const text = fc.string({ minLength: 1, maxLength: 20 });
    await fc.assert(
      fc.asyncProperty(fc.array(text, { minLength: 1, maxLength: 10 }), fc.nat(), async (texts, at) => {
        expect(await ruleFor(texts)).toBe('rest');
        expect(await ruleFor(texts.with(at % texts.length, KEY))).toBe('no-secrets');
      }),
      { numRuns: 50 },
    );
    expect(await readAsk(post({ model: 'auto', prompt: ['hi', 'you'] }), '/v1/completions')).toMatchObject({
      prompt: 'hi\nyou',
    });
  });

  it('can refuse what it does not see: the midst of a long text, and token ids', async () => {
    expect(await ruleFor(`${'x'.repeat(20_000)}${KEY}${'x'.repeat(20_000)}`)).toBe('no-secrets');
    expect(await ruleFor('x'.repeat(32_768))).toBe('rest');
    expect(await ruleFor([1, 2])).toBe('no-secrets');
    expect(await ruleFor([[1], [2]])).toBe('no-secrets');
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
