/**
 * Answers that are given again, through the Worker in workerd and its Cache API.
 */
import { createHash } from 'node:crypto';
import { CATALOGUE_KEY, type DecisionRecord, decisionSchema } from '@signpost/contracts';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { catalogueObject, digestOf } from './catalogues.ts';
import { type EdgeHandle, startEdge } from './edge.ts';
import { answerStatus, type Respond, startEvents, Upstream } from './upstream.ts';

const KEYS = { 'sk-a': 'acme', 'sk-b': 'umbrella' };
const METRICS_KEY = 'mk-of-the-cache';
const USAGE = { prompt_tokens: 7, completion_tokens: 2, total_tokens: 9 };
const KEPT_USAGE = { ...USAGE, prompt_tokens_details: { cached_tokens: 7 } };

let region: Upstream;
let edge: EdgeHandle;
const log: string[] = [];
/** The digit of the version that the region answers by. */
let version = 'a';

beforeAll(async () => {
  region = await Upstream.start();
  edge = await startEdge({
    regions: [{ name: 'eu', url: region.url }],
    keys: KEYS,
    adminKeys: { 'an-administrators-key': 'ada' },
    artifacts: catalogueObject({ math: { a: 1 }, law: { d: 1 } }),
    routing: `
version: 1
rules:
  - { name: shared, when: { header: { x-shared: true } }, then: { model: law, cache: { seconds: 60, shared: true } } }
  - { name: off, when: { header: { x-off: true } }, then: { model: math } }
  - { name: base, when: { model: base }, then: { model: base, cache: { seconds: 60 } } }
  - { name: rest, then: { model: math, cache: { seconds: 60 }, limits: { maxTokens: 50 } } }
`,
    variables: { METRICS_KEY_HASHES: JSON.stringify([createHash('sha256').update(METRICS_KEY).digest('hex')]) },
    onLog: ({ message }) => log.push(message),
  });
});
afterAll(async () => {
  await edge?.close();
  await region?.close();
});
beforeEach(() => {
  region.requests.length = 0;
  region.respond = answer;
});

/** As a region does: the text tells which request it was. */
const answer: Respond = (response, { path, body }) => {
  const { stream, stream_options: options, model } = JSON.parse(body) as Record<string, unknown>;
  const identity = { id: 'x-1', created: 1, model };
  const text = [`answer ${region.requests.length}`, ', whole'];
  const isChat = path.endsWith('/chat/completions');
  response.setHeader('x-signpost-digest', String(model) === 'law' ? digestOf('d') : digestOf(version));
  const choice = (said: string, finish_reason: string | null) =>
    isChat
      ? { index: 0, delta: { content: said }, logprobs: null, finish_reason }
      : { index: 0, text: said, logprobs: null, finish_reason };
  if (stream !== true) {
    const said = text.join('');
    const whole = isChat ? { message: { role: 'assistant', content: said, refusal: null } } : { text: said };
    const choices = [{ index: 0, ...whole, logprobs: null, finish_reason: 'stop' }];
    response.setHeader('content-type', 'application/json');
    response.end(JSON.stringify({ ...identity, choices, usage: USAGE }));
    return;
  }
  startEvents(response);
  for (const [i, said] of text.entries())
    response.write(`data: ${JSON.stringify({ ...identity, choices: [choice(said, i === 1 ? 'stop' : null)] })}\n\n`);
  if ((options as { include_usage?: boolean } | undefined)?.include_usage === true)
    response.write(`data: ${JSON.stringify({ ...identity, choices: [], usage: USAGE })}\n\n`);
  response.end('data: [DONE]\n\n');
};

interface Asked {
  readonly path?: string;
  readonly key?: string;
  readonly headers?: Record<string, string>;
}

function ask(prompt: string, more: Record<string, unknown> = {}, { path, key = 'sk-a', headers = {} }: Asked = {}) {
  const isText = path === '/v1/completions';
  return fetch(`${edge.url}${path ?? '/v1/chat/completions'}`, {
    method: 'POST',
    headers: { authorization: `Bearer ${key}`, ...headers },
    body: JSON.stringify({
      model: 'math',
      temperature: 0,
      ...(isText ? { prompt } : { messages: [{ role: 'user', content: prompt }] }),
      ...more,
    }),
  });
}

const state = (response: Response) => response.headers.get('x-signpost-cache');

/** What a stream says: its text, the number of chunks with usage, and its end. */
async function read(response: Response) {
  const events = (await response.text()).trimEnd().split('\n\n');
  const chunks = events
    .slice(0, -1)
    .map((event) => JSON.parse(event.slice('data: '.length)) as Record<string, unknown>);
  const choices = chunks.flatMap(
    ({ choices }) => choices as { delta?: { content?: string }; text?: string; finish_reason: string | null }[],
  );
  return {
    text: choices.map(({ delta, text }) => delta?.content ?? text ?? '').join(''),
    finish: choices.map(({ finish_reason }) => finish_reason).filter((reason) => reason !== null),
    usage: chunks.filter(({ usage }) => usage !== undefined).map(({ usage }) => usage),
    last: events.at(-1),
  };
}

/** Until the answer has been kept, which happens beside the request. */
async function untilKept(again: () => Promise<Response>): Promise<Response> {
  for (const giveUp = Date.now() + 5_000; Date.now() < giveUp; ) {
    const response = await again();
    if (state(response) === 'hit') return response;
    await response.text();
  }
  throw new Error('the answer was never kept');
}

describe('an answer', () => {
  it('of a key whose tokens a day bound it is for others that are bound so, and for nobody else', async () => {
    const made = await fetch(`${edge.url}/admin/keys`, {
      method: 'POST',
      headers: { authorization: 'Bearer an-administrators-key' },
      body: JSON.stringify({ tenant: 'acme', tokens_per_day: 1_000_000 }),
    });
    const { key } = (await made.json()) as { key: string };
    const headers = { 'x-shared': '1' };
    await untilKept(() => ask('bounded', {}, { key, headers }));
    expect(JSON.parse(region.last.body)).toMatchObject({ max_completion_tokens: 2_048 });
    const free = await ask('bounded', {}, { headers });
    expect([state(free), JSON.parse(region.last.body).max_completion_tokens]).toEqual(['miss', undefined]);
  });

  it('is given again, whole and as a stream, with another id, its age and what it took', async () => {
    const first = await ask('one');
    expect([state(first), first.headers.get('age')]).toEqual(['miss', null]);
    const said = (await first.json()) as { id: string };
    const again = await untilKept(() => ask('one'));
    const asked = region.requests.length;
    expect(again.headers.get('x-signpost-digest')).toBe(digestOf('a'));
    expect(again.headers.get('x-signpost-expert')).toBe('math');
    expect(Number(again.headers.get('age'))).toBeLessThan(10);
    const repeated = (await again.json()) as { id: string; choices: { message: { content: string } }[] };
    expect(repeated).toMatchObject({
      object: 'chat.completion',
      choices: [{ finish_reason: 'stop' }],
      usage: KEPT_USAGE,
    });
    expect(repeated.id).not.toBe(said.id);
    const { content = '' } = repeated.choices[0]?.message ?? {};
    expect(content).toMatch(/^answer \d+, whole$/);

    const stream = await ask('one', { stream: true });
    expect([state(stream), stream.headers.get('content-type')]).toEqual(['hit', 'text/event-stream']);
    expect(await read(stream)).toEqual({ text: content, finish: ['stop'], usage: [], last: 'data: [DONE]' });
    const counted = await ask('one', { stream: true, stream_options: { include_usage: true }, user: 'u', seed: 3 });
    expect(await read(counted)).toMatchObject({ text: content, usage: [null, null, null, KEPT_USAGE] });
    expect(region.requests).toHaveLength(asked);
  });

  it('is told in its record and counted: a hit with the versions that made it, and no usage of its own', async () => {
    const counted = async () => {
      const text = await (
        await fetch(`${edge.url}/metrics`, { headers: { authorization: `Bearer ${METRICS_KEY}` } })
      ).text();
      const of = (name: string) => Number(new RegExp(`^${name} (\\d+)$`, 'm').exec(text)?.[1] ?? 0);
      return ['hit', 'miss', 'bypass'].map((name) => of(`signpost_cache_total\\{state="${name}"\\}`));
    };
    const recordOf = async (answer: Response): Promise<DecisionRecord> => {
      await answer.text();
      const id = answer.headers.get('x-request-id');
      const lines = () => log.filter((line) => line.startsWith('{"event":"decision"') && line.includes(`"id":"${id}"`));
      await expect.poll(() => lines().length).toBe(1);
      return decisionSchema.parse(JSON.parse(lines()[0] ?? ''));
    };
    const [hits = 0, misses = 0, bypasses = 0] = await counted();
    const made = await recordOf(await ask('recorded'));
    const usage = { 'gen_ai.usage.input_tokens': 7, 'signpost.usage.counted_by': 'region' };
    expect(made).toMatchObject({ 'signpost.cache': 'miss', 'signpost.digest': digestOf('a'), ...usage });
    const hit = await recordOf(await untilKept(() => ask('recorded')));
    expect(hit).toMatchObject({
      'signpost.cache': 'hit',
      'signpost.digest': digestOf('a'),
      'signpost.ending': 'whole',
    });
    expect(Object.keys(hit).filter((name) => /usage|region/.test(name))).toEqual([]);
    expect(await recordOf(await ask('recorded', { temperature: 1 }))).toMatchObject({ 'signpost.cache': 'bypass' });
    expect(await recordOf(await ask('recorded', {}, { headers: { 'x-off': '1' } }))).not.toHaveProperty(
      'signpost.cache',
    );
    const grown = async () => {
      const [h = 0, m = 0, b = 0] = await counted();
      return { hits: h - hits, isMissed: m > misses, bypasses: b - bypasses };
    };
    await expect.poll(grown).toEqual({ hits: 1, isMissed: true, bypasses: 1 });
  });

  it('of a stream is given again once it has ended whole, to whoever wants it in one piece, too', async () => {
    const stream = await ask('two', { stream: true }, { path: '/v1/completions' });
    expect([state(stream), (await read(stream)).usage]).toEqual(['miss', []]);
    const again = await untilKept(() => ask('two', {}, { path: '/v1/completions' }));
    expect(await again.json()).toMatchObject({
      object: 'text_completion',
      choices: [{ text: expect.stringMatching(/^answer \d+, whole$/) }],
      usage: KEPT_USAGE,
    });
    const streamed = await ask('two', { stream: true }, { path: '/v1/completions' });
    expect([state(streamed), (await read(streamed)).text]).toEqual(['hit', expect.stringMatching(/, whole$/)]);
  });

  it('is another one for another prompt, field, path or tenant, unless the rule shares it', async () => {
    await (await ask('three')).text();
    await (await untilKept(() => ask('three'))).text();
    for (const [more, asked] of [
      [{ max_tokens: 9 }, {}],
      [{ stop: ['x'] }, {}],
      [{ response_format: { type: 'json_object' } }, {}],
      [{}, { path: '/v1/completions' }],
      [{}, { key: 'sk-b' }],
    ] as const) {
      const other = await ask('three', more, asked);
      expect([JSON.stringify(more), state(other)]).toEqual([JSON.stringify(more), 'miss']);
      await other.text();
    }
    const shared = { headers: { 'x-shared': 'yes' } };
    await (await ask('three', {}, shared)).text();
    await (await untilKept(() => ask('three', {}, shared))).text();
    expect(state(await ask('three', {}, { ...shared, key: 'sk-b' }))).toBe('hit');
  });

  it.each([
    ['no temperature', { temperature: undefined }, {}],
    ['a temperature', { temperature: 0.1 }, {}],
    ['several choices', { n: 2 }, {}],
    ['log-probabilities', { logprobs: true }, {}],
    ['token ids', { return_token_ids: true }, {}],
    ['tools', { tools: [{ type: 'function', function: { name: 'f' } }] }, {}],
    ['a wish for a new one', {}, { headers: { 'cache-control': 'no-cache' } }],
    ['a base that nobody has told', { model: 'base' }, {}],
  ] as const)('is not given again with %s', async (_, more, asked) => {
    for (let i = 0; i < 2; i++) {
      const response = await ask('four', more, asked);
      expect(state(response)).toBe('bypass');
      await response.text();
    }
    const explained = await fetch(`${edge.url}/v1/route`, {
      method: 'POST',
      headers: { authorization: 'Bearer sk-a', ...('headers' in asked ? asked.headers : {}) },
      body: JSON.stringify({ model: 'math', temperature: 0, messages: [{ role: 'user', content: 'four' }], ...more }),
    });
    expect(await explained.json()).toMatchObject({ cache: { bypass: expect.any(String) } });
  });

  it('has no such header where the rule keeps none', async () => {
    expect(state(await ask('five', {}, { headers: { 'x-off': 'yes' } }))).toBeNull();
  });

  it('is not kept when it is an error, breaks off, or is by another version than the edge thinks', async () => {
    const failures: Respond[] = [
      answerStatus(
        400,
        JSON.stringify({ error: { message: 'no', type: 'invalid_request_error', param: null, code: 'x' } }),
      ),
      (response) =>
        void startEvents(response).write(`data: {"choices":[{"index":0,"delta":{"content":"a"}}]}\n\n`, () =>
          response.destroy(),
        ),
    ];
    for (const [i, fail] of failures.entries()) {
      region.respond = fail;
      await (await ask(`six ${i}`, { stream: i === 1, n: 1 })).text().catch(() => undefined);
      region.respond = answer;
      const after = await ask(`six ${i}`, { n: 1 });
      expect(state(after)).toBe('miss');
      await after.text();
    }
    version = 'b';
    for (let i = 0; i < 3; i++) {
      const other = await ask('seven');
      expect([state(other), other.headers.get('x-signpost-digest')]).toEqual(['miss', digestOf('b')]);
      await other.text();
    }
    version = 'a';
  });

  it('of a version that was replaced is given to nobody from the moment the edge knows', async () => {
    await (await ask('eight')).text();
    await (await untilKept(() => ask('eight'))).text();
    await edge.setArtifact(CATALOGUE_KEY, catalogueObject({ math: { b: 1 } })[CATALOGUE_KEY] ?? '');
    version = 'b';
    const known = async () => (await ask('eight')).headers.get('x-signpost-version');
    await expect.poll(known, { timeout: 25_000, interval: 500 }).toContain(digestOf('b'));
    const other = await untilKept(() => ask('eight'));
    expect(other.headers.get('x-signpost-digest')).toBe(digestOf('b'));
  }, 30_000);
});
