/**
 * The official OpenAI client against the Worker, with a real backend and real 1-bit experts behind it.
 */
import { readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { prepareDemoStore, type System, startSystem } from '@signpost/demo';
import OpenAI from 'openai';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

let state: string;
let system: System;
let client: OpenAI;
const logged: string[] = [];
beforeAll(async () => {
  state = await mkdtemp(join(tmpdir(), 'signpost-e2e-'));
  const store = await prepareDemoStore(state);
  system = await startSystem({
    regions: [{ name: 'eu', store: store.url }],
    edgePort: 0,
    onLog: (line) => logged.push(line),
  });
  client = new OpenAI({ baseURL: `${system.url}/v1`, apiKey: 'none', maxRetries: 0 });
  expect(await system.classifierStarted()).toMatch(/^ready/);
});
afterAll(async () => {
  await system?.close();
  await rm(state, { recursive: true, force: true });
});

const user = (content: string) => [{ role: 'user' as const, content }];

interface GoldenCase {
  readonly prompt: string;
  readonly answer: string;
}
const { cases } = JSON.parse(readFileSync(join(import.meta.dirname, '../../models/demo/golden.json'), 'utf8')) as {
  cases: Record<string, GoldenCase[]>;
};

/** What the region's log says of a request that has ended. */
function ended(requestId: string): { outcome: string; completion_tokens: number } | undefined {
  return logged
    .map((line) => JSON.parse(line) as { msg: string; requestId?: string; outcome: string; completion_tokens: number })
    .find((line) => line.msg === 'request ended' && line.requestId === requestId);
}

const MANY = 1_000;

it('the edge hears of its region, and of each expert that comes', async () => {
  const replicas = async () => {
    const health = (await (await fetch(`${system.url}/health`)).json()) as {
      regions: { name: string; replicas: { heard_ms_ago: number; draining: boolean }[] }[];
    };
    return health.regions.find(({ name }) => name === 'eu')?.replicas;
  };
  await expect.poll(replicas, { timeout: 10_000 }).toMatchObject([{ draining: false }]);
  const [first] = (await replicas()) ?? [];
  // Every two seconds, and seen a second later at most; the rest is for a busy machine.
  expect(first?.heard_ms_ago).toBeLessThan(8_000);
});

describe('the openai client', () => {
  it('gets the answers of transformers from the base, whole and streamed', async () => {
    for (const { prompt, answer } of cases.base ?? []) {
      const request = { model: 'base', messages: user(prompt), temperature: 0, max_tokens: 60 };
      const whole = await client.chat.completions.create(request);
      expect(whole.choices[0]?.message.content?.trim()).toBe(answer.trim());
      let streamed = '';
      for await (const chunk of await client.chat.completions.create({ ...request, stream: true }))
        streamed += chunk.choices[0]?.delta.content ?? '';
      expect(streamed).toBe(whole.choices[0]?.message.content);
    }
  });

  it('asking for "auto" is answered by the expert that the prompt is for, and told why', async () => {
    const asked = {
      chat: 'I have been sad all day.',
      math: 'Tom has 12 apples and gives 5 to Anna. How many apples does Tom have left?',
      code: 'Write a function that returns the square of a number.',
    };
    for (const [expert, prompt] of Object.entries(asked)) {
      const { data, response } = await client.chat.completions
        .create({ model: 'auto', messages: user(prompt), temperature: 0 })
        .withResponse();
      expect(response.headers.get('x-signpost-expert')).toBe(expert);
      expect(response.headers.get('x-signpost-region')).toBe('eu');
      expect(response.headers.get('x-signpost-rule')).not.toBe('');
      expect(response.headers.get('x-signpost-classifier')).toBe('ready');
      expect(response.headers.get('x-signpost-label')).toBe(expert);
      expect(Number(response.headers.get('x-signpost-confidence'))).toBeGreaterThan(0.5);
      expect(data.choices[0]?.finish_reason).toBe('stop');
      expect(data.usage?.total_tokens).toBe((data.usage?.prompt_tokens ?? 0) + (data.usage?.completion_tokens ?? 0));
    }
    const sum = await client.chat.completions.create({
      model: 'math',
      messages: user('What is 17 plus 25?'),
      temperature: 0,
    });
    expect(sum.choices[0]?.message.content).toContain('The answer is 42.');
  });

  it('may ask for different experts and mixtures at once, and each gets what it gets alone', async () => {
    const models = ['base', 'chat', 'math', 'code', 'math:1+chat:0.3', 'code:0.5'];
    const complete = (model: string) =>
      client.chat.completions
        .create({ model, messages: user('Write a function that adds two numbers.'), temperature: 0, max_tokens: 40 })
        .then((completion) => completion.choices[0]?.message.content);
    const together = await Promise.all(models.map(complete));
    for (const [i, model] of models.entries()) expect(together[i], model).toBe(await complete(model));
    expect(new Set(together).size).toBeGreaterThan(2);
  });

  it('lists base, experts and auto', async () => {
    const ids = [];
    for await (const model of client.models.list()) ids.push(model.id);
    expect(ids).toEqual(expect.arrayContaining(['auto', 'base', 'chat', 'math', 'code']));
  });

  it('gets several choices, each with its index, whole and streamed', async () => {
    const request = {
      model: 'base',
      messages: user('Tell me about a red house.'),
      temperature: 1,
      seed: 5,
      max_tokens: 10,
      n: 3,
    };
    const { choices } = await client.chat.completions.create(request);
    expect(choices.map(({ index }) => index)).toEqual([0, 1, 2]);
    const streamed = ['', '', ''];
    for await (const chunk of await client.chat.completions.create({ ...request, stream: true })) {
      for (const { index, delta } of chunk.choices) streamed[index] += delta.content ?? '';
    }
    expect(streamed).toEqual(choices.map(({ message }) => message.content));
    expect(new Set(streamed).size).toBe(3);
  });

  it('gets log-probabilities with alternatives and bytes', async () => {
    const request = {
      model: 'base',
      messages: user('Hello 🙂'),
      temperature: 0,
      max_tokens: 8,
      logprobs: true,
      top_logprobs: 4,
    };
    const { choices } = await client.chat.completions.create(request);
    const entries = choices[0]?.logprobs?.content ?? [];
    expect(entries.length).toBeGreaterThan(2);
    for (const { token, logprob, bytes, top_logprobs } of entries) {
      expect(top_logprobs).toHaveLength(4);
      // Greedy: the token is the likeliest.
      expect(top_logprobs[0]).toMatchObject({ token, logprob, bytes });
    }
    const bytes = entries.flatMap((entry) => entry.bytes ?? []);
    expect(new TextDecoder().decode(Uint8Array.from(bytes))).toContain(choices[0]?.message.content);
    const streamed = [];
    for await (const chunk of await client.chat.completions.create({ ...request, stream: true }))
      streamed.push(...(chunk.choices[0]?.logprobs?.content ?? []));
    expect(streamed).toEqual(entries);
  });

  it('gets JSON that follows its schema', async () => {
    const schema = {
      type: 'object',
      properties: { city: { type: 'string', maxLength: 10 }, population: { type: 'integer', minimum: 0 } },
      required: ['city', 'population'],
      additionalProperties: false,
    };
    for (const seed of [1, 2, 3]) {
      const { choices } = await client.chat.completions.create({
        model: 'chat',
        messages: user('Name a city.'),
        temperature: 1.5,
        seed,
        max_tokens: 120,
        response_format: { type: 'json_schema', json_schema: { name: 'city', strict: true, schema } },
      });
      expect(choices[0]?.finish_reason).toBe('stop');
      const value = JSON.parse(choices[0]?.message.content ?? '') as { city: string; population: number };
      expect(Object.keys(value)).toEqual(['city', 'population']);
      expect(value.city.length).toBeLessThanOrEqual(10);
      expect(value.population).toBeGreaterThanOrEqual(0);
    }
  });

  it('is told which model takes no tools, and what in a schema is not supported', async () => {
    const tools = [{ type: 'function' as const, function: { name: 'now', parameters: { type: 'object' } } }];
    const ask = (more: object) => client.chat.completions.create({ model: 'base', messages: user('hi'), ...more });
    await expect(ask({ tools })).rejects.toMatchObject({ status: 400, param: 'tools' });
    const schema = { type: 'array', uniqueItems: true };
    await expect(
      ask({ response_format: { type: 'json_schema', json_schema: { name: 'x', schema } } }),
    ).rejects.toMatchObject({ status: 400, param: 'response_format', message: expect.stringMatching(/uniqueItems/) });
  });

  it('that goes away stops the generation', async () => {
    const controller = new AbortController();
    const requestId = 'goes-away';
    const stream = await client.chat.completions.create(
      {
        model: 'base',
        messages: user('Once upon a time'),
        max_tokens: MANY,
        ignore_eos: true,
        stream: true,
      } as OpenAI.ChatCompletionCreateParamsStreaming,
      { signal: controller.signal, headers: { 'x-request-id': requestId } },
    );
    for await (const chunk of stream) {
      if ((chunk.choices[0]?.delta.content ?? '') !== '') break;
    }
    controller.abort();
    await expect.poll(() => ended(requestId), { timeout: 5_000 }).toMatchObject({ outcome: 'client gone' });
    expect(ended(requestId)?.completion_tokens).toBeLessThan(MANY);
    expect(await system.running()).toBe(0);
  });
});

describe('bad input', () => {
  const post = async (body: string, path = '/v1/chat/completions') => {
    const response = await fetch(`${system.url}${path}`, {
      method: 'POST',
      body,
      headers: { 'content-type': 'application/json' },
    });
    const { error } = (await response.json()) as { error: { message: string; code: string; type: string } };
    return { status: response.status, ...error };
  };
  const chat = (change: object) => JSON.stringify({ model: 'base', messages: user('hi'), ...change });

  it.each([
    ['an unknown model', chat({ model: 'law' }), 404, /law/],
    ['a malformed model name', chat({ model: 'math:1++' }), 400, /math:1\+\+/],
    ['malformed JSON', '{"model":', 400, /not JSON/],
    ['empty messages', chat({ messages: [] }), 400, /messages/],
    ['a prompt beyond the context', chat({ messages: user('word '.repeat(5_000)) }), 400, /1024|1,024/],
    ['an unknown digest', chat({ model: 'math@0123456789' }), 404, /0123456789/],
  ])('%s is refused with its cause', async (_, body, status, message) => {
    const error = await post(body);
    expect(error).toMatchObject({
      status,
      message: expect.stringMatching(message),
      type: expect.any(String),
      code: expect.any(String),
    });
  });

  it('leaves the server serving', async () => {
    const completion = await client.chat.completions.create({
      model: 'math',
      messages: user('What is 17 plus 25?'),
      temperature: 0,
    });
    expect(completion.choices[0]?.message.content).toContain('42');
  });
});
