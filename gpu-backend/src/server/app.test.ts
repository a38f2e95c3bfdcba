/**
 * The app over a real engine on the demo base: too many requests, too little cache, apps that leave, an engine that dies.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { hashKey } from '@signpost/contracts';
import { Tokenizer } from '@signpost/engine';
import { openStore } from '@signpost/store';
import { interceptStore } from '@signpost/store/testing';
import { pino } from 'pino';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { CatalogueWatch } from '../experts/catalogue-watch.ts';
import { StandingOrders } from '../experts/standing.ts';
import { ExpertTokenizers } from '../experts/tokenizers.ts';
import { EngineClient } from '../runner/engine-client.ts';
import { type AppDeps, createApp } from './app.ts';
import { DrainSwitch } from './drain.ts';
import { Heartbeats } from './heartbeat.ts';
import { Metrics } from './metrics.ts';
import type { RequestSpan } from './tracing.ts';

const BASE = join(import.meta.dirname, '../../../models/demo/base');
const CHAT = '/v1/chat/completions';
const MAX_REQUESTS = 8;
const METRICS_KEY = 'scrape';

let dir: string;
let engine: EngineClient;
let deps: AppDeps;
let app: ReturnType<typeof createApp>;
const logged: string[] = [];
const spans: RequestSpan[] = [];
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'signpost-app-'));
  const metrics = new Metrics({
    region: 'test',
    blockTokens: 16,
    stats: () => engine.stats(),
    modelNames: () => [],
    catalogueRevision: () => undefined,
  });
  engine = await EngineClient.start(
    // Room for three long answers at a time.
    {
      base: BASE,
      store: dir,
      device: 'cpu',
      gpu: {},
      weights: 'bf16',
      slots: 1,
      hostCacheBytes: 2 ** 28,
      diskCache: undefined,
      kvTokens: 320,
      maxStepTokens: 64,
      maxSequences: 8,
      maxStepExperts: 1,
      decodeSteps: 1,
      blockTokens: 16,
    },
    { maxRequests: MAX_REQUESTS, maxQueuedTokens: 4_096, observer: metrics, onDeath: () => undefined },
  );
  const catalogue = new CatalogueWatch(openStore(dir), { onProblem: () => undefined });
  deps = {
    engine,
    tokenizers: new ExpertTokenizers(openStore(dir), {
      tokenizer: await Tokenizer.load(BASE),
      vocabSize: engine.facts.vocabSize,
    }),
    catalogue,
    defaultMaxTokens: 5,
    region: 'test',
    acceptedKeys: undefined,
    metrics,
    metricsKey: await hashKey(METRICS_KEY),
    tracing: { record: (span) => spans.push(span), flush: async () => undefined, close: async () => undefined },
    logPrompts: false,
    heartbeats: new Heartbeats({
      region: 'test',
      engine,
      isDraining: () => false,
      edges: [],
      signingKey: undefined,
      onReach: () => undefined,
    }),
    standing: new StandingOrders({
      catalogue,
      base: engine.facts.base,
      slots: 1,
      keep: () => undefined,
      hint: () => undefined,
      onProblem: () => undefined,
    }),
    adminKey: undefined,
    log: pino({ level: 'info' }, { write: (line) => logged.push(line) }),
    draining: new DrainSwitch(() => undefined),
  };
  app = createApp(deps);
});
afterAll(async () => {
  await engine?.close();
  await rm(dir, { recursive: true, force: true });
});

const ask = (content: string, more: object = {}) => ({
  model: 'base',
  messages: [{ role: 'user', content }],
  temperature: 0,
  ...more,
});
const post = async (body: object, init: RequestInit = {}): Promise<Response> =>
  app.request(CHAT, { method: 'POST', body: JSON.stringify(body), ...init });

interface Answer {
  readonly choices: readonly { readonly message: { readonly content: string }; readonly finish_reason: string }[];
  readonly usage: { readonly completion_tokens: number };
}
const answer = async (body: object) => (await (await post(body)).json()) as Answer;

describe('a region under load', () => {
  it('gives the same answers when the cache is too small for all of them and some are computed twice', async () => {
    // Prompts that end just before a block does: a few tokens into the answers every block is taken.
    const complete = async (i: number): Promise<unknown> => {
      const prompt = Array.from({ length: 62 }, (_, at) => 300 + ((i * 101 + at * 37) % 500));
      const body = JSON.stringify({ model: 'base', prompt, max_tokens: 60, temperature: 0, logprobs: 0, echo: true });
      const response = await app.request('/v1/completions', { method: 'POST', body });
      const { choices, usage } = (await response.json()) as { choices: object[]; usage: object };
      return { choices, usage };
    };
    const indices = [...Array(MAX_REQUESTS).keys()];
    const together = await Promise.all(indices.map(complete));
    for (const i of indices) expect(together[i]).toEqual(await complete(i));
    expect(await engine.stats()).toMatchObject({ running: 0, waiting: 0, kvBlocks: 20, kvBlocksFree: 20 });
  });

  it('takes as many requests at once as it was told, and refuses the rest with a time to come back', async () => {
    const burst = Array.from({ length: MAX_REQUESTS + 4 }, (_, i) =>
      post(ask('hi', { max_tokens: 20, stream: i % 2 === 0 })),
    );
    const responses = await Promise.all(burst);
    const refused = responses.filter(({ status }) => status === 429);
    expect(refused).toHaveLength(4);
    expect(Number(refused[0]?.headers.get('retry-after'))).toBeGreaterThanOrEqual(1);
    expect(await refused[0]?.json()).toMatchObject({ error: { type: 'rate_limit_error', code: 'region_full' } });
    for (const response of responses) if (!response.bodyUsed) await response.text();
    expect((await post(ask('hi'))).status).toBe(200);
  });
});

describe('a request', () => {
  it('that sets no limit ends at the default one', async () => {
    expect(await answer(ask('Tell me a long story.'))).toMatchObject({
      choices: [{ finish_reason: 'length' }],
      usage: { completion_tokens: 5 },
    });
  });

  it('that can never fit the cache is refused with what would fit', async () => {
    const response = await post(ask('hi', { max_tokens: 400 }));
    expect(response.status).toBe(400);
    expect(await response.json()).toMatchObject({
      error: { code: 'context_length_exceeded', message: expect.stringMatching(/KV cache holds 320.*at most \d+/) },
    });
  });

  it.each([true, false])('whose app has left before it begins does no work (streamed: %s)', async (stream) => {
    const before = logged.length;
    const response = await post(ask('hi', { max_tokens: 200, stream }), { signal: AbortSignal.abort() });
    expect(response.status).toBe(499);
    expect(await engine.stats()).toMatchObject({ running: 0, waiting: 0 });
    expect(logged.slice(before).join('')).not.toContain('"level":50');
  });

  it('is in the log without its prompt or its answer', async () => {
    const { choices } = await answer(ask('A secret word: marzipan.', { max_tokens: 20 }));
    await post({ model: 'base', messages: [{ role: 'user', content: 'marzipan', extra: 1 }], stop: '' });
    const log = logged.join('');
    expect(log).toContain('"outcome":"complete"');
    expect(log).not.toContain('marzipan');
    expect(log).not.toContain(choices[0]?.message.content);
  });

  it.each([
    ['/v1/models/base', 'GET'],
    ['/v1/models', 'GET'],
    ['/health/live', 'GET'],
    ['/health/ready', 'GET'],
    ['/heartbeat', 'GET'],
    [CHAT, 'POST'],
  ])('with another method than %s takes is told which', async (path, allow) => {
    const response = await app.request(path, { method: 'PUT' });
    expect([response.status, response.headers.get('allow')]).toEqual([405, allow]);
    expect(await response.json()).toMatchObject({ error: { code: 'method_not_allowed' } });
  });
});

describe('metrics', () => {
  const scrape = async (): Promise<Map<string, number>> => {
    const response = await app.request('/metrics', { headers: { authorization: `Bearer ${METRICS_KEY}` } });
    expect(response.status).toBe(200);
    expect(response.headers.get('content-type')).toMatch(/^text\/plain; version=0\.0\.4/);
    const samples = (await response.text()).split('\n').filter((line) => line !== '' && !line.startsWith('#'));
    return new Map(
      samples.map((line) => {
        const [, name = '', labels = '', value] = /^([\w:]+)(?:\{(.*)\})? (\S+)$/.exec(line) ?? [];
        const own = labels.split(/,(?=\w+=)/).filter((label) => !/^(region|model_name)=/.test(label));
        return [own.join('') === '' ? name : `${name}{${own.join()}}`, Number(value)];
      }),
    );
  };

  it.each([undefined, 'Bearer wrong', `Basic ${METRICS_KEY}`])('need their key, not %s', async (authorization) => {
    const response = await app.request('/metrics', authorization === undefined ? {} : { headers: { authorization } });
    expect(response.status).toBe(401);
    expect(await response.text()).toContain('SIGNPOST_METRICS_KEY');
  });

  it("count what was asked and answered, under vLLM's names", async () => {
    const before = await scrape();
    const since = (after: Map<string, number>, name: string) =>
      (after.get(name) ?? Number.NaN) - (before.get(name) ?? 0);
    const prompt = Array.from({ length: 40 }, (_, i) => 300 + i);
    const body = JSON.stringify({ model: 'base', prompt, max_tokens: 7, temperature: 0 });
    for (let i = 0; i < 2; i++) await app.request('/v1/completions', { method: 'POST', body });
    await post(ask('hi', { max_tokens: 400 }));
    const after = await scrape();
    expect(since(after, 'vllm:request_success_total{finished_reason="length"}')).toBe(2);
    expect(since(after, 'vllm:prompt_tokens_total')).toBe(80);
    expect(since(after, 'signpost_prompt_tokens_cached_total')).toBe(32);
    expect(since(after, 'vllm:prefix_cache_queries_total')).toBe(80);
    expect(since(after, 'vllm:prefix_cache_hits_total')).toBe(32);
    expect(since(after, 'vllm:generation_tokens_total')).toBe(14);
    for (const name of ['time_to_first_token', 'e2e_request_latency', 'request_queue_time', 'request_decode_time'])
      expect(since(after, `vllm:${name}_seconds_count`)).toBe(2);
    expect(since(after, 'vllm:inter_token_latency_seconds_count')).toBe(12);
    // The first token comes of the prompt.
    expect(since(after, 'vllm:iteration_tokens_total_sum')).toBe(40 + 8 + 12);
    expect(since(after, 'signpost_requests_refused_total{code="context_length_exceeded"}')).toBe(1);
    expect(since(after, 'signpost_expert_requests_total{expert="base"}')).toBe(2);
    expect(after.get('vllm:num_requests_running')).toBe(0);
    expect(after.get('vllm:kv_cache_usage_perc')).toBe(0);
    expect(after.get('vllm:cache_config_info{block_size="16",num_gpu_blocks="20"}')).toBe(1);
    expect(after.get('signpost_engine_up')).toBe(1);
  });

  it('show the load while there is one', async () => {
    const streamed = await post(ask('Once upon a time', { max_tokens: 200, ignore_eos: true, stream: true }));
    const load = await scrape();
    expect(load.get('vllm:num_requests_running')).toBe(1);
    expect(load.get('vllm:kv_cache_usage_perc')).toBeGreaterThan(0);
    await streamed.body?.cancel();
    await expect.poll(async () => (await scrape()).get('vllm:num_requests_running')).toBe(0);
  });
});

describe('a span', () => {
  it('tells of each request what was asked and how it went', async () => {
    spans.length = 0;
    await post(ask('hi', { max_tokens: 3, seed: 5 }), {
      headers: { traceparent: '00-ab-cd-01', 'x-request-id': 'r1' },
    });
    expect(spans).toMatchObject([
      {
        operation: 'chat',
        requestId: 'r1',
        traceparent: '00-ab-cd-01',
        parameters: { temperature: 0, seed: 5, maxTokens: 3 },
        completionTokens: 3,
        finishReasons: ['length'],
        errorCode: undefined,
      },
    ]);
    const { startedAt = 0, scheduledAt = 0, firstTokenAt = 0, endedAt = 0 } = spans[0] ?? {};
    const order = [startedAt, scheduledAt, firstTokenAt, endedAt];
    expect(order).toEqual(order.toSorted((a, b) => a - b));
    expect(Math.abs(endedAt - Date.now())).toBeLessThan(60_000);
  });

  it("tells of a deadline that passed: the app's own, where it is shorter than the region's", async () => {
    spans.length = 0;
    const response = await post(ask('Once upon a time', { max_tokens: 250, ignore_eos: true }), {
      headers: { 'x-signpost-timeout-ms': '20' },
    });
    expect([response.status, spans.map(({ errorCode }) => errorCode)]).toEqual([504, ['deadline_exceeded']]);
    const wrong = await post(ask('hi'), { headers: { 'x-signpost-timeout-ms': 'soon' } });
    expect([wrong.status, await wrong.text()]).toEqual([400, expect.stringContaining('x-signpost-timeout-ms')]);
  });
});

describe('a store that is silent', () => {
  it('costs a request no more than the time it has, and the base none', async () => {
    const silent = interceptStore(openStore(dir), { read: () => new Promise(() => undefined) });
    const cutOff = createApp({ ...deps, catalogue: new CatalogueWatch(silent, { onProblem: () => undefined }) });
    const send = (model: string, timeoutMs: number) =>
      cutOff.request(CHAT, {
        method: 'POST',
        body: JSON.stringify({ ...ask('hi', { max_tokens: 1 }), model }),
        headers: { 'x-signpost-timeout-ms': String(timeoutMs) },
      });
    const refused = await send('math', 50);
    expect([refused.status, await refused.text()]).toEqual([504, expect.stringMatching(/50 ms passed while .* store/)]);
    expect((await send('base', 2 ** 40)).status).toBe(200);
  });
});

describe('an engine that dies', () => {
  it('fails what is in flight, streamed answers without [DONE], and all that comes later; liveness says so', async () => {
    const slow = ask('Once upon a time', { max_tokens: 250, temperature: 1, seed: 3, ignore_eos: true });
    const streamed = await post({ ...slow, stream: true });
    const reader = streamed.body?.pipeThrough(new TextDecoderStream()).getReader();
    let text = (await reader?.read())?.value ?? '';
    const whole = post(slow);
    const stats = engine.stats();
    await engine.close();
    // It may have been answered before; what matters is that it doesn't wait for ever.
    await Promise.allSettled([stats]);
    for (;;) {
      const { done, value } = (await reader?.read()) ?? { done: true };
      if (done) break;
      text += value;
    }
    expect(text).toContain('"role":"assistant"');
    expect(text.trimEnd().split('\n\n').at(-1)).toContain('"code":"engine_gone"');
    expect(text).not.toContain('[DONE]');
    expect((await whole).status).toBe(503);
    expect((await post(ask('hi'))).status).toBe(503);
    expect((await app.request('/heartbeat')).status).toBe(503);
    expect((await app.request('/health/live')).status).toBe(500);
    expect((await app.request('/health/ready')).status).toBe(503);
  });
});
