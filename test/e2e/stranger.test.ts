/**
 * A real container of ours, spoken to as a stranger: by OpenAI's API alone, under names of its own, without signed requests or heartbeats.
 */
import { readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { prepareDemoStore } from '@signpost/demo';
import { type EdgeHandle, startEdge } from '@signpost/edge';
import { type BackendHandle, startBackend } from '@signpost/gpu-backend';
import OpenAI from 'openai';
import { afterAll, beforeAll, expect, it } from 'vitest';

const MODELS = join(import.meta.dirname, '../../models/demo');

let state: string;
let backend: BackendHandle;
let edge: EdgeHandle;
let client: OpenAI;
beforeAll(async () => {
  state = await mkdtemp(join(tmpdir(), 'signpost-stranger-'));
  const store = await prepareDemoStore(state);
  backend = await startBackend({
    base: join(MODELS, 'base'),
    store: store.url,
    region: 'stranger',
    port: 0,
    logLevel: 'warn',
  });
  edge = await startEdge({
    regions: [{ name: 'team', kind: 'openai', url: `${backend.url}/v1`, models: { base: 'base', calculator: 'math' } }],
  });
  client = new OpenAI({ baseURL: `${edge.url}/v1`, apiKey: 'none', maxRetries: 0 });
});
afterAll(async () => {
  await edge?.close();
  await backend?.close();
  await rm(state, { recursive: true, force: true });
});

const { cases } = JSON.parse(readFileSync(join(MODELS, 'golden.json'), 'utf8')) as {
  cases: Record<string, { readonly prompt: string; readonly answer: string }[]>;
};
const user = (content: string) => [{ role: 'user' as const, content }];

async function answersOf(asked: OpenAI, model: string, prompt: string): Promise<string> {
  const request = { model, messages: user(prompt), temperature: 0, max_tokens: 60 };
  const whole = await asked.chat.completions.create(request);
  expect(whole.model).toBe(model);
  let streamed = '';
  for await (const chunk of await asked.chat.completions.create({ ...request, stream: true })) {
    expect(chunk.model).toBe(model);
    expect(chunk.choices[0]).not.toHaveProperty('token_ids');
    streamed += chunk.choices[0]?.delta.content ?? '';
  }
  const text = whole.choices[0]?.message.content ?? '';
  expect(streamed).toBe(text);
  return text;
}

it('its base answers as transformers does, whole and streamed', async () => {
  expect(cases.base?.length).toBeGreaterThan(0);
  for (const { prompt, answer } of cases.base ?? [])
    expect((await answersOf(client, 'base', prompt)).trim()).toBe(answer.trim());
});

it('its expert answers as it does without an edge, under the name that the app asked for', async () => {
  const direct = new OpenAI({ baseURL: `${backend.url}/v1`, apiKey: 'none', maxRetries: 0 });
  const sum = await answersOf(client, 'calculator', 'What is 17 plus 25?');
  expect(sum).toContain('The answer is 42.');
  expect(sum).toBe(await answersOf(direct, 'math', 'What is 17 plus 25?'));
});

it('tells a stream’s usage to an app that asks', async () => {
  const stream = await client.chat.completions.create({
    model: 'calculator',
    messages: user('What is 17 plus 25?'),
    stream: true,
    stream_options: { include_usage: true },
  });
  let tokens = 0;
  for await (const { usage } of stream) tokens = usage?.completion_tokens ?? tokens;
  expect(tokens).toBeGreaterThan(1);
});

it('refuses a request that its server refuses, and a model that it has no name for', async () => {
  const tooHot = client.chat.completions.create({ model: 'base', messages: user('hi'), temperature: 9 });
  await expect(tooHot).rejects.toMatchObject({ status: 400, type: 'invalid_request_error' });
  const unknown = client.chat.completions.create({ model: 'code', messages: user('hi') });
  await expect(unknown).rejects.toMatchObject({ status: 404, code: 'no_region_for_model' });
});

it('lists the names alone, and plans by what its metrics say', async () => {
  const ids: string[] = [];
  for await (const { id } of client.models.list()) ids.push(id);
  expect(ids).toEqual(['auto', 'base', 'calculator']);
  const why = async () => {
    const body = JSON.stringify({ model: 'base', messages: user('hi') });
    const answer = (await (await fetch(`${edge.url}/v1/route`, { method: 'POST', body })).json()) as {
      plan: { terms: { term: string; why: string }[] }[];
    };
    return answer.plan[0]?.terms.find(({ term }) => term === 'queue')?.why;
  };
  await expect.poll(why, { timeout: 10_000, interval: 50 }).toMatch(/^0 requests wait, 0 run \(its metrics\)/);
});
