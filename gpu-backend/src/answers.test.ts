/**
 * Answers of the demo model: held to formats and tools whatever is drawn, several at a time, and resumed after a cut at any token.
 */
import { cp, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { type BackendHandle, startBackend } from './index.ts';

const BASE = join(import.meta.dirname, '../../models/demo/base');
/** The demo's own, with tools as Hermes' templates have them. */
const TEMPLATE = `{%- if tools %}<|system|>{{ tools | tojson }}<|end|>{% endif -%}
{%- for m in messages -%}{%- if m.role == 'tool' -%}<|user|><tool_response>{{ m.content }}</tool_response><|end|>
{%- else -%}<|{{ m.role }}|>{{ m.content }}{%- for call in m.tool_calls or [] -%}<tool_call>
{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}
</tool_call>{%- endfor -%}<|end|>{%- endif -%}{%- endfor -%}<|assistant|>`;

let dir: string;
let plain: BackendHandle;
let withTools: BackendHandle;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'signpost-formats-'));
  const base = join(dir, 'base');
  await cp(BASE, base, { recursive: true });
  await writeFile(join(base, 'chat_template.jinja'), TEMPLATE);
  const options = { store: dir, region: 'test', port: 0, slots: 1, kvTokens: 8_192, logLevel: 'silent' };
  plain = await startBackend({ ...options, base: BASE });
  withTools = await startBackend({ ...options, base });
});
afterAll(async () => {
  await plain?.close();
  await withTools?.close();
  await rm(dir, { recursive: true, force: true });
});

interface Answer {
  readonly choices: readonly {
    readonly index: number;
    readonly text: string;
    readonly message: {
      readonly content: string | null;
      readonly tool_calls?: readonly { readonly function: { readonly name: string; readonly arguments: string } }[];
    };
    readonly finish_reason: string;
  }[];
  readonly usage: { readonly prompt_tokens: number; readonly completion_tokens: number };
}

const post = (backend: BackendHandle, path: string, body: object) =>
  fetch(`${backend.url}${path}`, { method: 'POST', body: JSON.stringify({ model: 'base', ...body }) });
async function ask<T = Answer>(backend: BackendHandle, body: object, path = '/v1/chat/completions'): Promise<T> {
  const response = await post(backend, path, body);
  const text = await response.text();
  expect(response.status, text).toBe(200);
  return JSON.parse(text) as T;
}
const refusal = async (backend: BackendHandle, body: object) => {
  const response = await post(backend, '/v1/chat/completions', { messages, ...body });
  const { error } = (await response.json()) as { error: { param: string; message: string } };
  return { status: response.status, ...error };
};
const messages = [{ role: 'user', content: 'Tell me about a red house.' }];
const hot = [0, 0.7, 1, 2].flatMap((temperature, i) => [
  { temperature, seed: i },
  { temperature, seed: i + 10 },
]);

describe('a format', () => {
  const schema = {
    type: 'object',
    properties: {
      name: { type: 'string', maxLength: 12 },
      age: { type: 'integer', minimum: 0, maximum: 120 },
      tags: { type: 'array', items: { enum: ['red', 'green'] }, maxItems: 3 },
      more: { anyOf: [{ type: 'null' }, { type: 'boolean' }] },
    },
    required: ['name', 'age', 'tags', 'more'],
    additionalProperties: false,
  };
  const response_format = { type: 'json_schema', json_schema: { name: 'person', strict: true, schema } };

  it('is kept at any temperature and seed', async () => {
    const validator = z.fromJSONSchema(schema as never);
    for (const draw of hot) {
      const { choices } = await ask(plain, { messages, response_format, max_tokens: 200, ...draw });
      expect(choices[0]?.finish_reason, choices[0]?.message.content ?? '').toBe('stop');
      expect(validator.safeParse(JSON.parse(choices[0]?.message.content ?? ''))).toMatchObject({ success: true });
    }
  });

  it('of any JSON object, a choice or an expression is kept too, for chat and completions', async () => {
    for (const draw of hot) {
      const object = await ask(plain, { messages, response_format: { type: 'json_object' }, max_tokens: 300, ...draw });
      const [choice] = object.choices;
      // An answer that was cut off is said to be.
      if (choice?.finish_reason === 'stop') expect(JSON.parse(choice.message.content ?? '')).toBeTypeOf('object');
      else expect(choice?.finish_reason).toBe('length');
      const chosen = await ask(plain, { messages, guided_choice: ['yes', 'no', 'yes and no'], ...draw });
      expect(['yes', 'no', 'yes and no']).toContain(chosen.choices[0]?.message.content);
      const dated = await ask(
        plain,
        { prompt: 'Today is ', guided_regex: '\\d{4}-\\d\\d', ...draw },
        '/v1/completions',
      );
      expect(dated.choices[0]?.text).toMatch(/^\d{4}-\d\d$/);
    }
  });

  it('that is not supported is refused by what is not', async () => {
    const unique = { ...schema, properties: { tags: { type: 'array', uniqueItems: true } }, required: [] };
    const format = { type: 'json_schema', json_schema: { name: 'x', schema: unique } };
    expect(await refusal(plain, { response_format: format })).toMatchObject({
      status: 400,
      param: 'response_format',
      message: expect.stringMatching(/#\/properties\/tags\/uniqueItems/),
    });
    expect(await refusal(plain, { guided_regex: '(?=a)' })).toMatchObject({ status: 400, param: 'guided_regex' });
  });
});

describe('tools', () => {
  const tools = [
    {
      type: 'function',
      function: {
        name: 'weather',
        parameters: {
          type: 'object',
          properties: { city: { enum: ['Rome', 'Oslo'] }, days: { type: 'integer', minimum: 1, maximum: 9 } },
          required: ['city', 'days'],
        },
      },
    },
    { type: 'function', function: { name: 'now', parameters: { type: 'object', properties: {} } } },
  ];

  it('that must be called are called as they are declared, whatever is drawn', async () => {
    const seen = new Set<string>();
    for (const draw of hot.slice(2, 7)) {
      for (const tool_choice of ['required', { type: 'function', function: { name: 'weather' } }]) {
        const request = { messages, tools, tool_choice, parallel_tool_calls: false, max_tokens: 200, ...draw };
        const [choice] = (await ask(withTools, request)).choices;
        expect([choice?.finish_reason, choice?.message.content]).toEqual(['tool_calls', null]);
        const calls = choice?.message.tool_calls ?? [];
        expect(calls).toHaveLength(1);
        const { name, arguments: given } = calls[0]?.function ?? { name: '', arguments: '' };
        seen.add(name);
        if (name === 'weather')
          expect(JSON.parse(given)).toEqual({ city: expect.stringMatching(/Rome|Oslo/), days: expect.any(Number) });
        else expect(JSON.parse(given)).toEqual({});
        if (typeof tool_choice === 'object') expect(name).toBe('weather');
      }
    }
    expect(seen).toEqual(new Set(['weather', 'now']));
  });

  it('and what they answered reach the template', async () => {
    const conversation = [
      ...messages,
      {
        role: 'assistant',
        content: null,
        tool_calls: [{ id: 'a', type: 'function', function: { name: 'now', arguments: '{"zone":"UTC"}' } }],
      },
      { role: 'tool', tool_call_id: 'a', content: '12:00' },
    ];
    const { tokens, count } = await ask<{ tokens: number[]; count: number }>(
      withTools,
      { messages: conversation, tools },
      '/tokenize',
    );
    const { prompt } = await ask<{ prompt: string }>(withTools, { tokens }, '/detokenize');
    expect(count).toBe(tokens.length);
    expect(prompt).toContain('"name": "weather"');
    expect(prompt).toContain('<tool_call>\n{"name": "now", "arguments": {"zone": "UTC"}}\n</tool_call>');
    expect(prompt).toContain('<tool_response>12:00</tool_response>');
  });

  it('are refused by name where the template takes none', async () => {
    expect(await refusal(plain, { tools })).toMatchObject({ status: 400, param: 'tools' });
    const conversation = [...messages, { role: 'tool', tool_call_id: 'a', content: 'x' }];
    expect(await refusal(plain, { messages: conversation })).toMatchObject({ status: 400, param: 'messages.1' });
  });
});

describe('several choices', () => {
  it('are each what the seed draws for them, the first one what it is alone', async () => {
    const request = { messages, temperature: 1, seed: 5, max_tokens: 12 };
    const many = await ask(plain, { ...request, n: 3 });
    expect(many.choices.map(({ index }) => index)).toEqual([0, 1, 2]);
    const contents = many.choices.map(({ message }) => message.content);
    expect(new Set(contents).size).toBe(3);
    const one = await ask(plain, request);
    expect(contents[0]).toBe(one.choices[0]?.message.content);
    expect(many.usage.prompt_tokens).toBe(one.usage.prompt_tokens);
    expect((await ask(plain, { ...request, n: 3 })).choices).toEqual(many.choices);
  });

  it('answer several prompts in order', async () => {
    const request = { temperature: 0, max_tokens: 5, n: 2 };
    const both = await ask(plain, { ...request, prompt: ['Once upon a time', 'Hello'] }, '/v1/completions');
    const alone = await ask(plain, { ...request, prompt: 'Hello' }, '/v1/completions');
    expect(both.choices.map(({ index }) => index)).toEqual([0, 1, 2, 3]);
    expect(both.choices.slice(2).map(({ text }) => text)).toEqual(alone.choices.map(({ text }) => text));
  });
});

describe('stop tokens', () => {
  it('end an answer, not before min_tokens, and the stop string is kept where asked for', async () => {
    const request = { prompt: 'Once upon a time', temperature: 0, max_tokens: 30 };
    const { choices } = await ask<{ choices: { text: string; token_ids: number[] }[] }>(
      plain,
      { ...request, return_token_ids: true },
      '/v1/completions',
    );
    const ids = choices[0]?.token_ids ?? [];
    const at = ids.findIndex((id, i) => i > 1 && ids.indexOf(id) === i);
    const stopped = await ask<{ choices: { token_ids: number[] }[] }>(
      plain,
      { ...request, stop_token_ids: [ids[at]], return_token_ids: true },
      '/v1/completions',
    );
    expect(stopped.choices[0]?.token_ids).toEqual(ids.slice(0, at));
    const later = await ask<{ choices: { token_ids: number[] }[] }>(
      plain,
      { ...request, stop_token_ids: [ids[at]], min_tokens: at + 3, return_token_ids: true },
      '/v1/completions',
    );
    expect(later.choices[0]?.token_ids.length).toBeGreaterThanOrEqual(at + 3);
    const text = choices[0]?.text ?? '';
    const stop = text.slice(6, 9);
    const kept = await ask(plain, { ...request, stop, include_stop_str_in_output: true }, '/v1/completions');
    expect(kept.choices[0]?.text).toBe(text.slice(0, text.indexOf(stop) + stop.length));
    const forced = await ask(plain, { ...request, max_tokens: 300, ignore_eos: true }, '/v1/completions');
    expect(forced.usage.completion_tokens).toBe(300);
  });
});

describe('a stream that is cut after any token and resumed', () => {
  interface Chunk {
    readonly choices: readonly {
      readonly token_ids?: readonly number[];
      readonly delta?: { readonly tool_calls?: { id?: string }[] };
    }[];
  }
  async function chunks(backend: BackendHandle, path: string, body: object): Promise<string[]> {
    const response = await post(backend, path, {
      ...body,
      stream: true,
      return_token_ids: true,
      stream_options: { include_usage: true },
    });
    const text = await response.text();
    expect(response.status, text).toBe(200);
    const list = text
      .split('\n\n')
      .filter((event) => event.startsWith('data: '))
      .map((event) => event.slice(6));
    expect(list.pop(), text.slice(-300)).toBe('[DONE]');
    return list.map((data) => {
      const { id: _, created: __, ...chunk } = JSON.parse(data) as Chunk & { id: string; created: number };
      // Drawn anew for every call, and what the cache had of a prompt is no part of its answer.
      return JSON.stringify(chunk)
        .replace(/"id":"[A-Za-z0-9]{9}"/g, '"id":"…"')
        .replace(/"cached_tokens":\d+/, '"cached_tokens":0');
    });
  }

  const seeded = { temperature: 1.2, seed: 11, max_tokens: 24 };
  const tool = {
    type: 'function',
    function: {
      name: 'weather',
      parameters: { type: 'object', properties: { city: { type: 'string', maxLength: 3 } }, required: ['city'] },
    },
  };
  it.each([
    ['greedy text', '/v1/chat/completions', { messages, temperature: 0, max_tokens: 24 }],
    ['drawn text', '/v1/chat/completions', { messages, ...seeded }],
    [
      'characters of several tokens',
      '/v1/completions',
      { prompt: 'é 🙂', ...seeded, guided_regex: '(🙂|é|日本){8}', max_tokens: 60 },
    ],
    [
      'a stop string over token borders',
      '/v1/completions',
      { prompt: 'Once upon a time', temperature: 0, max_tokens: 40, stop: ['was a', 'nd th', 'e s'] },
    ],
    [
      'penalties, bias and scores',
      '/v1/completions',
      {
        prompt: 'Once upon a time',
        ...seeded,
        frequency_penalty: 1,
        presence_penalty: 0.5,
        repetition_penalty: 1.2,
        logit_bias: { 300: 2 },
        top_k: 50,
        top_p: 0.9,
        min_p: 0.01,
        logprobs: 2,
      },
    ],
    ['scores in chat', '/v1/chat/completions', { messages, ...seeded, logprobs: true, top_logprobs: 3 }],
    [
      'a format',
      '/v1/chat/completions',
      {
        messages,
        ...seeded,
        max_tokens: 60,
        response_format: {
          type: 'json_schema',
          json_schema: {
            name: 'x',
            schema: {
              type: 'object',
              properties: { a: { type: 'string', maxLength: 9 }, b: { type: 'integer' } },
              required: ['a', 'b'],
            },
          },
        },
      },
    ],
    [
      'a tool call',
      '/v1/chat/completions',
      { messages, ...seeded, max_tokens: 40, tools: [tool], tool_choice: 'required', parallel_tool_calls: false },
    ],
  ])('goes on as if nothing had happened: %s', async (_, path, body) => {
    const backend = 'tools' in body ? withTools : plain;
    const uncut = await chunks(backend, path, body);
    const tokensOf = (chunk: string) => (JSON.parse(chunk) as Chunk).choices.flatMap(({ token_ids = [] }) => token_ids);
    const ids = uncut.flatMap(tokensOf);
    expect(ids.length).toBeGreaterThan(3);
    for (let cut = 1; cut <= ids.length; cut++) {
      let seen = 0;
      const after = uncut.findIndex((chunk) => {
        seen += tokensOf(chunk).length;
        return seen === cut;
      });
      expect(await chunks(backend, path, { ...body, resume_token_ids: ids.slice(0, cut) }), `cut after ${cut}`).toEqual(
        uncut.slice(after + 1),
      );
    }
  });

  it('is refused where it would not be the same answer', async () => {
    expect(await refusal(plain, { temperature: 1, resume_token_ids: [300] })).toMatchObject({
      status: 400,
      param: 'resume_token_ids',
    });
    expect(await refusal(plain, { temperature: 0, resume_token_ids: [99_999] })).toMatchObject({
      status: 400,
      param: 'resume_token_ids',
    });
    expect(await refusal(plain, { temperature: 0, resume_token_ids: [300], guided_choice: ['yes'] })).toMatchObject({
      status: 400,
      message: expect.stringMatching(/token 300 doesn't follow/),
    });
  });
});
