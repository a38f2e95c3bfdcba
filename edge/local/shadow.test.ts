/**
 * Answers compared with another model's, through the Worker in workerd, its queue and its Durable Object.
 */
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { run } from '../cli/run.ts';
import { FleetHealth } from '../src/forward/region-health.ts';
import { PrefixMemory } from '../src/plan/prefixes.ts';
import { readSettings } from '../src/settings/settings.ts';
import type { Comparison } from '../src/shadow/compare.ts';
import type { ShadowReport } from '../src/shadow/report.ts';
import { MAX_ATTEMPTS, ShadowRunner } from '../src/shadow/runner.ts';
import { catalogueObject, digestOf } from './catalogues.ts';
import { type EdgeHandle, startEdge } from './edge.ts';
import { answerStatus, DONE, type Respond, startEvents, Upstream } from './upstream.ts';

const ADMIN_KEY = 'an-administrators-key';
const API_KEY = 'sk-static';

let region: Upstream;
let other: Upstream;
let edge: EdgeHandle;
beforeAll(async () => {
  [region, other] = await Promise.all([Upstream.start(), Upstream.start()]);
  edge = await startEdge({
    regions: [
      { name: 'eu', url: region.url },
      { name: 'spare', url: other.url, role: 'overflow' },
    ],
    keys: { [API_KEY]: 'acme' },
    adminKeys: { [ADMIN_KEY]: 'ada' },
    artifacts: catalogueObject({ law: { a: 1 }, next: { b: 1 } }),
    variables: { RECORD_PROMPTS: 'true' },
    routing: `
version: 1
rules:
  - { name: law, when: { model: law }, then: { model: law, regions: [eu], shadow: { model: next } } }
  - { name: elsewhere, when: { model: moved }, then: { model: law, regions: [eu], shadow: { model: law, regions: [spare] } } }
  - { name: missing, when: { model: gone }, then: { model: law, shadow: { model: nobody } } }
  - { name: rest, then: { model: requested } }
`,
    onLog: () => {},
  });
});
afterAll(async () => {
  await edge?.close();
  await Promise.all([region?.close(), other?.close()]);
});
beforeEach(() => {
  region.requests.length = 0;
  other.requests.length = 0;
  region.respond = answer;
  other.respond = answer;
});

/** As a region does; `next` says something else. */
const answer: Respond = (response, { body }) => {
  const { stream, model, n = 1 } = JSON.parse(body) as { stream?: boolean; model: string; n?: number };
  const content = model.startsWith('next') ? 'no, it is not' : 'yes, it is';
  response.setHeader('x-signpost-digest', digestOf(model.startsWith('next') ? 'b' : 'a'));
  const usage = { prompt_tokens: 7, completion_tokens: 4, total_tokens: 11 };
  if (stream !== true) {
    const choices = [{ index: 0, message: { role: 'assistant', content }, logprobs: null, finish_reason: 'stop' }];
    response.writeHead(200, { 'content-type': 'application/json' });
    return void response.end(JSON.stringify({ id: 'x', model, choices, usage }));
  }
  const chunk = (delta: object, finish_reason: string | null) =>
    `data: ${JSON.stringify({ id: 'x', model, choices: [{ index: n - 1, delta, finish_reason }], usage: null })}\n\n`;
  const last = `data: ${JSON.stringify({ id: 'x', model, choices: [], usage })}\n\n`;
  startEvents(response).end(chunk({ content }, null) + chunk({}, 'stop') + last + DONE);
};

async function ask(id: string, model: string, more: Record<string, unknown> = {}): Promise<string> {
  const response = await fetch(`${edge.url}/v1/chat/completions`, {
    method: 'POST',
    headers: { authorization: `Bearer ${API_KEY}`, 'x-request-id': id },
    body: JSON.stringify({ model, messages: [{ role: 'user', content: 'Is it?' }], temperature: 0, ...more }),
  });
  return response.text();
}

const admin = (path: string) =>
  fetch(`${edge.url}/admin/${path}`, { headers: { authorization: `Bearer ${ADMIN_KEY}` } });

async function pairOf(rule: string, compared: number): Promise<ShadowReport['pairs'][number]> {
  const report = async () => (await (await admin(`shadow?rule=${rule}`)).json()) as ShadowReport;
  await expect
    .poll(async () => (await report()).comparisons, { timeout: 20_000, interval: 100 })
    .toBeGreaterThanOrEqual(compared);
  const { pairs } = await report();
  return pairs[0] ?? expect.unreachable();
}

describe('a shadow', () => {
  it('is asked after the app has its answer, streamed or whole, and compared', async () => {
    expect(await ask('whole', 'law')).toContain('yes, it is');
    expect(await ask('streamed', 'law', { stream: true, max_tokens: 9 })).toContain('[DONE]');
    expect(await pairOf('law', 2)).toMatchObject({
      rule: 'law',
      model: 'law',
      digests: digestOf('a'),
      shadow_model: 'next',
      shadow_digests: digestOf('b'),
      compared: 2,
      failed: 0,
      same: 0,
      greedy: { compared: 2, same: 0 },
      same_finish: 2,
      // Two of three and of four words.
      similarity: { mean: 0.571 },
      tokens: [4, 4],
    });
    const shadows = region.requests.filter(({ headers }) => String(headers['x-request-id']).startsWith('shadow-'));
    expect(shadows.map(({ headers }) => headers['x-request-id']).sort()).toEqual(['shadow-streamed', 'shadow-whole']);
    const [streamed] = shadows.filter(({ headers }) => headers['x-request-id'] === 'shadow-streamed');
    expect(JSON.parse(streamed?.body ?? '')).toEqual({
      model: 'next',
      stream: false,
      max_tokens: 9,
      temperature: 0,
      messages: [{ role: 'user', content: 'Is it?' }],
    });
    expect(other.requests).toHaveLength(0);
  });

  it('goes to regions of its own, overflow included, where its rule names them', async () => {
    await ask('moved', 'moved');
    expect(await pairOf('elsewhere', 1)).toMatchObject({ compared: 1, same: 1, similarity: { mean: 1 } });
    expect(other.requests).toHaveLength(1);
  });

  it('that nobody can answer is told as failed; the app has its answer', async () => {
    region.respond = (response, request) =>
      (JSON.parse(request.body) as { model: string }).model === 'nobody'
        ? answerStatus(
            404,
            '{"error":{"message":"no","type":"not_found_error","param":null,"code":"model_not_found"}}',
          )(response, request)
        : answer(response, request);
    expect(await ask('gone', 'gone')).toContain('yes, it is');
    expect(await pairOf('missing', 1)).toMatchObject({ compared: 0, failed: 1, errors: { model_not_found: 1 } });
  });

  it('is none of an answer that is no single text', async () => {
    await ask('several', 'law', { n: 2, stream: true });
    await ask('whole-again', 'law');
    await pairOf('law', 3);
    expect(region.requests.some(({ headers }) => headers['x-request-id'] === 'shadow-several')).toBe(false);
  });

  it('is told by /v1/route and the command line, and to administrators alone', async () => {
    const explained = await fetch(`${edge.url}/v1/route`, {
      method: 'POST',
      headers: { authorization: `Bearer ${API_KEY}` },
      body: JSON.stringify({ model: 'law', messages: [{ role: 'user', content: 'hi' }] }),
    });
    expect(await explained.json()).toMatchObject({ shadow: { model: 'next', percent: 100 } });
    expect((await fetch(`${edge.url}/admin/shadow`)).status).toBe(401);
    expect((await admin('shadow?since=yesterday')).status).toBe(400);

    const env = { SIGNPOST_EDGE: edge.url, SIGNPOST_ADMIN_KEY: ADMIN_KEY };
    const { out } = await run(['shadow', 'report', '--rule', 'law', '--since', '1h'], env);
    expect(out).toMatch(/^rule +answers +shadow +compared +failed +same +same at t=0 /);
    expect(out).toMatch(/\nlaw +law \(a{8}\) +next \(b{8}\) +3 +0 +0\.0 % +0\.0 % +0\.571, 0\.571 +4 : 4 /);
    expect(out).toMatch(
      /differ most \(F1 0\.571\) in \S+\n {2}prompt: .*Is it\?.*\n {2}answer: yes, it is\n {2}shadow: no, it is not/,
    );
    const future = await run(['shadow', 'report', '--since', '2999-01-01T00:00:00Z'], env);
    expect(future.out).toMatch(/^nothing compared yet/);
  });
});

describe('the queue’s other end', () => {
  const job = {
    id: 'r1',
    at: Date.now(),
    path: '/v1/chat/completions',
    rule: 'law',
    shadow: { model: 'next' },
    fields: { messages: [{ role: 'user', content: 'Is it?' }], temperature: 0 },
    promptTokens: 3,
    answer: { model: 'law', region: 'eu', text: 'yes, it is', finishReason: 'stop', ms: 5 },
  };
  const kept: Comparison[] = [];
  const runner = () =>
    new ShadowRunner({
      settings: readSettings({
        REGIONS: JSON.stringify([{ name: 'eu', url: region.url }]),
        ALLOW_ANONYMOUS: 'true',
      }),
      knowledge: {
        recent: async () => ({
          beats: [],
          catalogue: undefined,
          networkMs: () => undefined,
          prefixes: new PrefixMemory(Date.now),
        }),
      },
      health: new FleetHealth(),
      keep: async (comparison) => void kept.push(comparison),
      log: () => undefined,
    });
  beforeEach(() => {
    kept.length = 0;
  });

  it('tries again where regions are full, ever later, and gives up in the end', async () => {
    region.respond = answerStatus(503);
    for (let attempt = 1; attempt < MAX_ATTEMPTS; attempt++) {
      expect(await runner().run(job, attempt, () => {})).toEqual({ kind: 'later', seconds: 30 * attempt });
    }
    expect(kept).toEqual([]);
    expect(await runner().run(job, MAX_ATTEMPTS, () => {})).toEqual({ kind: 'done' });
    expect(kept).toMatchObject([{ result: 'failed', error: 'no_region_answered', similarity: null }]);
  });

  it('keeps no texts unless prompts are recorded', async () => {
    expect(await runner().run(job, 1, () => {})).toEqual({ kind: 'done' });
    expect(kept).toMatchObject([{ result: 'different', texts: null }]);
  });

  it('drops what is no job', async () => {
    expect(await runner().run({ id: 7 }, 1, () => {})).toEqual({ kind: 'done' });
    expect([kept, region.requests]).toEqual([[], []]);
  });
});
