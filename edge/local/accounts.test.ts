/**
 * What the Worker says happened: headers, records, feedback, metrics; in real workerd.
 */
import { createHash } from 'node:crypto';
import { type DecisionRecord, decide, decisionSchema, factsOf, feedbackListSchema, lacks } from '@signpost/contracts';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { parseRulesText } from '../src/rules/parse.ts';
import { type EdgeHandle, startEdge } from './edge.ts';
import { answerStatus, DONE, event, type Respond, startEvents, Upstream } from './upstream.ts';

const KEY = 'sk-test-key';
const OTHER_KEY = 'sk-other-key';
const METRICS_KEY = 'mk-test-key';
const SECRET_TEXT = 'What is 17 * 23, dear Mallory?';
const RULES = `
version: 1
rules:
  - { name: closed, when: { header: { x-team: red } }, then: { refuse: red is out } }
  - { name: tiered, when: { body: { metadata.tier: gold } }, then: { model: code } }
  - { name: sum, when: { prompt: '\\d+ \\* \\d+' }, then: { model: math } }
  - { name: named, when: { not: { model: auto } }, then: { model: requested } }
  - { name: rest, then: { model: chat } }
`;
const USAGE = { prompt_tokens: 7, completion_tokens: 2, total_tokens: 9, prompt_tokens_details: { cached_tokens: 4 } };
const DIGEST = 'd'.repeat(64);

let near: Upstream;
let far: Upstream;
let edge: EdgeHandle;
const log: string[] = [];

const whole: Respond = (response) =>
  void response
    .writeHead(200, {
      'content-type': 'application/json',
      'x-signpost-digest': DIGEST,
      'server-timing': 'region;dur=1.5, queue;dur=0.2',
    })
    .end(JSON.stringify({ choices: [{ message: { role: 'assistant', content: 'hello' } }], usage: USAGE }));

function start(more: Partial<Parameters<typeof startEdge>[0]> = {}, lines = log): Promise<EdgeHandle> {
  return startEdge({
    regions: [
      { name: 'near', url: near.url, continent: 'EU' },
      { name: 'far', url: far.url, continent: 'OC' },
    ],
    keys: { [KEY]: 'acme', [OTHER_KEY]: 'other' },
    routing: RULES,
    place: { continent: 'EU', country: 'DE', colo: 'FRA' },
    onLog: ({ message }) => lines.push(message),
    ...more,
    variables: {
      // An app that goes is noticed when something is sent to it.
      KEEP_ALIVE_MS: '200',
      METRICS_KEY_HASHES: JSON.stringify([createHash('sha256').update(METRICS_KEY).digest('hex')]),
      ...more.variables,
    },
  });
}

beforeAll(async () => {
  [near, far] = await Promise.all([Upstream.start(), Upstream.start()]);
  edge = await start();
});
afterAll(async () => {
  await edge?.close();
  await Promise.all([near?.close(), far?.close()]);
});
beforeEach(() => {
  near.respond = far.respond = whole;
  log.length = 0;
});

const chat = (content: string, more: object = {}) => ({
  model: 'auto',
  messages: [{ role: 'user', content }],
  ...more,
});

function post(path: string, body: unknown, headers: Record<string, string> = {}, on = edge): Promise<Response> {
  return fetch(`${on.url}${path}`, {
    method: 'POST',
    body: typeof body === 'string' ? body : JSON.stringify(body),
    headers: { authorization: `Bearer ${KEY}`, ...headers },
  });
}

function recordsIn(lines: readonly string[]): DecisionRecord[] {
  return lines
    .filter((line) => line.startsWith('{"event":"decision"'))
    .map((line) => decisionSchema.parse(JSON.parse(line)));
}

/** The record of an answer: one, whatever became of it. */
async function recordOf(answer: Response, lines = log): Promise<DecisionRecord> {
  const id = answer.headers.get('x-request-id');
  const found = () => recordsIn(lines).filter((record) => record.id === id);
  await expect.poll(() => found().length, { timeout: 10_000, interval: 20 }).toBe(1);
  return found()[0] ?? expect.unreachable();
}

describe('a decision record', () => {
  it('says who asked for what, what was decided, and how it ended', async () => {
    const answer = await post('/v1/chat/completions', chat(SECRET_TEXT, { temperature: 0.5 }));
    await answer.text();
    const record = await recordOf(answer);
    expect(record).toMatchObject({
      event: 'decision',
      schema: 1,
      trace_id: answer.headers.get('x-signpost-trace'),
      'signpost.sample': 1,
      'url.path': '/v1/chat/completions',
      'signpost.tenant': 'acme',
      'signpost.colo': 'FRA',
      'geo.country.iso_code': 'DE',
      'geo.continent.code': 'EU',
      'gen_ai.operation.name': 'chat',
      'gen_ai.request.model': 'auto',
      'gen_ai.request.stream': false,
      'gen_ai.response.model': 'math',
      'signpost.prompt_chars': SECRET_TEXT.length,
      'signpost.rule': 'sum',
      'signpost.rules.source': 'kv',
      'signpost.rules.version': answer.headers.get('x-signpost-rules'),
      'signpost.digest': DIGEST,
      'signpost.plan': expect.stringMatching(/^near=[\d.]+,far=[\d.]+$/),
      'http.response.status_code': 200,
      'signpost.ending': 'whole',
      'signpost.region': 'near',
      'signpost.retries': 0,
      'gen_ai.usage.input_tokens': 7,
      'gen_ai.usage.output_tokens': 2,
      'gen_ai.usage.cache_read.input_tokens': 4,
      'signpost.usage.counted_by': 'region',
      'signpost.facts.headers': { 'x-team': null },
      'signpost.facts.body': { model: 'auto', temperature: 0.5, 'metadata.tier': null },
    });
    expect(record).not.toHaveProperty('error.type');
    expect(Date.now() - Date.parse(record.time)).toBeLessThan(60_000);
  });

  it('holds no word of the prompt or the answer, unless the operator asks for prompts', async () => {
    const body = chat(SECRET_TEXT, { user: 'Mallory', metadata: { note: 'Mallory', tier: 'tin' }, stop: ['Mallory'] });
    const answer = await post('/v1/chat/completions', body, { 'x-other': 'Mallory' });
    await answer.text();
    await recordOf(answer);
    expect(log.join('\n')).not.toMatch(/Mallory|hello/);
    const lines: string[] = [];
    const open = await start({ variables: { RECORD_PROMPTS: 'true' } }, lines);
    try {
      const recorded = await recordOf(await post('/v1/chat/completions', body, {}, open), lines);
      expect(recorded['signpost.prompt']).toBe(SECRET_TEXT);
    } finally {
      await open.close();
    }
  });

  it('lets other rules be tried on the request, and says what it lacks for it', async () => {
    const tiered = await recordOf(
      await post('/v1/completions', { model: 'auto', prompt: 'hi', metadata: { tier: 'gold' } }),
    );
    expect(tiered['signpost.rule']).toBe('tiered');
    const rules = parseRulesText(RULES, 'rules');
    const facts = factsOf(tiered) ?? expect.unreachable();
    expect(decide(rules, facts).rule).toBe('tiered');
    // Its prompt isn't recorded, and the rules read prompts.
    expect(lacks(tiered, rules)).toEqual(['prompt']);
    const others = parseRulesText(
      'version: 1\nrules: [{ name: a, when: { any: [{ header: { x-new: true } }, { body: { metadata.tier: tin, seed: 1 } }, { path: /v1/completions }] }, then: { model: math } }, { name: b, then: { model: chat } }]',
      'rules',
    );
    expect(lacks(tiered, others)).toEqual(['header x-new', 'body seed']);
    expect(decide(others, facts).rule).toBe('a');
  });

  it.each([
    [
      'refused by a rule',
      chat('hi'),
      { 'x-team': 'red' },
      whole,
      {
        'http.response.status_code': 403,
        'signpost.ending': 'refused',
        'error.type': 'refused_by_rule',
        'signpost.rule': 'closed',
        'signpost.facts.headers': { 'x-team': 'red' },
      },
    ],
    [
      'malformed',
      '{',
      {},
      whole,
      { 'http.response.status_code': 400, 'signpost.ending': 'refused', 'error.type': 'invalid_json' },
    ],
    [
      'unknown to its region',
      chat('hi', { model: 'nobody' }),
      {},
      answerStatus(404, '{"error":{"code":"model_not_found"}}'),
      {
        'http.response.status_code': 404,
        'signpost.ending': 'refused',
        'error.type': 'model_not_found',
        'signpost.region': 'near',
      },
    ],
  ] as const)('is left by a request that is %s', async (_, body, headers, respond, expected) => {
    near.respond = respond as Respond;
    const answer = await post('/v1/chat/completions', body, headers);
    expect(await recordOf(answer)).toMatchObject(expected);
  });

  it('is not left by who has no key, and counts in the metrics all the same', async () => {
    const answer = await post('/v1/chat/completions', chat('hi'), { authorization: 'Bearer sk-nobody' });
    expect(answer.status).toBe(401);
    await expect.poll(metrics).toMatch(/signpost_requests_total\{path="\/v1\/chat\/completions",status="401"\} \d/);
    expect(recordsIn(log)).toEqual([]);
  });

  it('of a stream comes at its end, with the time to its first token, also where the app has gone', async () => {
    near.respond = (response) =>
      void startEvents(response).end(
        `${event('one')}data: ${JSON.stringify({ choices: [], usage: USAGE })}\n\n${DONE}`,
      );
    const answer = await post('/v1/chat/completions', chat('hi', { stream: true }));
    expect(await answer.text()).not.toContain('usage');
    const record = await recordOf(answer);
    expect(record).toMatchObject({
      'gen_ai.request.stream': true,
      'signpost.ending': 'whole',
      'gen_ai.usage.output_tokens': 2,
      'gen_ai.response.time_to_first_chunk': expect.any(Number),
      'signpost.headers_ms': expect.any(Number),
    });
    near.respond = (response) => void startEvents(response).write(event('one'));
    const leaving = new AbortController();
    const begun = await fetch(`${edge.url}/v1/chat/completions`, {
      method: 'POST',
      body: JSON.stringify(chat('hi', { stream: true })),
      headers: { authorization: `Bearer ${KEY}` },
      signal: leaving.signal,
    });
    await begun.body?.getReader().read();
    leaving.abort();
    expect(await recordOf(begun)).toMatchObject({ 'signpost.ending': 'left', 'signpost.usage.counted_by': 'passed' });
  });

  it('stays out of the log, and is kept, where the operator says so', async () => {
    const lines: string[] = [];
    const quiet = await start({ variables: { LOG_DECISIONS: 'false' } }, lines);
    try {
      const answer = await post('/v1/chat/completions', chat('hi'), {}, quiet);
      const said = { decision_id: answer.headers.get('x-request-id'), verdict: 'right' };
      expect((await post('/v1/feedback', said, {}, quiet)).status).toBe(200);
      expect(recordsIn(lines)).toEqual([]);
    } finally {
      await quiet.close();
    }
  });

  it('is left by a share of requests only, where the operator says so', async () => {
    const lines: string[] = [];
    const sampled = await start({ variables: { DECISIONS_SAMPLE: '0' } }, lines);
    try {
      await (await post('/v1/chat/completions', chat('hi'), {}, sampled)).text();
      await expect.poll(() => metrics(sampled)).toMatch(/signpost_requests_total\{.*status="200"\} 1/);
      expect(recordsIn(lines)).toEqual([]);
      const said = { decision_id: 'not-recorded', verdict: 'right' };
      expect((await post('/v1/feedback', said, {}, sampled)).status).toBe(404);
    } finally {
      await sampled.close();
    }
  });
});

async function metrics(on = edge): Promise<string> {
  const answer = await fetch(`${on.url}/metrics`, { headers: { authorization: `Bearer ${METRICS_KEY}` } });
  expect(answer.status).toBe(200);
  expect(answer.headers.get('content-type')).toMatch(/^text\/plain; version=0\.0\.4/);
  return answer.text();
}

describe('headers', () => {
  it('tell the parts of the time, the region’s own after them', async () => {
    const answer = await post('/v1/chat/completions', chat('hi'));
    const timing = answer.headers.get('server-timing') ?? '';
    expect(timing.split(', ').map((part) => part.replace(/;dur=[\d.]+$/, ''))).toEqual([
      'auth',
      'parse',
      'classify',
      'rules',
      'plan',
      'forward',
      'edge',
      'region',
      'queue',
    ]);
    expect(timing).toContain('region;dur=1.5');
    for (const [path, init] of [
      ['/health', {}],
      ['/v1/models', {}],
      ['/nowhere', {}],
      ['/v1/route', { method: 'POST', body: '{' }],
    ] as const)
      expect((await fetch(edge.url + path, init)).headers.get('server-timing')).toMatch(/edge;dur=\d/);
  });

  it('pass the trace on under a span of the edge’s own', async () => {
    const trace = '4bf92f3577b34da6a3ce929d0e0e4736';
    const answer = await post('/v1/chat/completions', chat('hi'), {
      traceparent: `00-${trace}-00f067aa0ba902b7-01`,
      tracestate: 'a=1,b=2',
    });
    const record = await recordOf(answer);
    expect(record.trace_id).toBe(trace);
    expect(near.last.headers.traceparent).toBe(`00-${trace}-${record.span_id}-01`);
    expect(near.last.headers.tracestate).toBe('a=1,b=2');
    await post('/v1/chat/completions', chat('hi'), { traceparent: '00-ab-cd-01', tracestate: 'a=1' });
    expect(near.last.headers.traceparent).toMatch(/^00-[0-9a-f]{32}-[0-9a-f]{16}-03$/);
    expect(near.last.headers).not.toHaveProperty('tracestate');
  });
});

describe('feedback', () => {
  const give = (body: object, headers = {}, on = edge) => post('/v1/feedback', body, headers, on);
  const list = async (query = '', key = KEY, on = edge) => {
    const answer = await fetch(`${on.url}/v1/feedback${query}`, { headers: { authorization: `Bearer ${key}` } });
    return feedbackListSchema.parse(await answer.json());
  };

  it('is taken from the tenant of the decision, kept once, and handed out', async () => {
    const answer = await post('/v1/chat/completions', chat(SECRET_TEXT));
    const decision_id = answer.headers.get('x-request-id') ?? '';
    const said = { decision_id, verdict: 'wrong', expected: 'chat', comment: 'no sum', prompt: 'How old is Bob?' };
    const first = await give(said);
    expect(first.status).toBe(200);
    const kept = await first.json();
    expect(kept).toMatchObject({
      object: 'feedback',
      decision_id,
      tenant: 'acme',
      verdict: 'wrong',
      expected: 'chat',
      rule: 'sum',
      model: 'math',
      text: 'How old is Bob?',
    });
    // Said again, nothing changes.
    expect(await (await give(said)).json()).toEqual(kept);
    expect((await list()).data).toEqual([kept]);
    // Said otherwise, the last word counts.
    await give({ decision_id, verdict: 'right' });
    const { data } = await list();
    expect(data).toMatchObject([{ decision_id, verdict: 'right', expected: null, text: null }]);
    expect(await metrics()).toMatch(
      /signpost_feedback_total\{verdict="wrong"\} 1\n.*|signpost_feedback_total\{verdict="right"\} 1/,
    );
  });

  it('of others, and of what nobody knows, is refused alike', async () => {
    const answer = await post('/v1/chat/completions', chat('hi'));
    const decision_id = answer.headers.get('x-request-id') ?? '';
    await expect.poll(async () => (await give({ decision_id, verdict: 'right' })).status).toBe(200);
    const [others, unknown] = await Promise.all([
      give({ decision_id, verdict: 'wrong' }, { authorization: `Bearer ${OTHER_KEY}` }),
      give({ decision_id: 'nobody-knows', verdict: 'wrong' }),
    ]);
    for (const refused of [others, unknown]) {
      expect(refused.status).toBe(404);
      expect(await refused.json()).toMatchObject({ error: { code: 'unknown_decision', param: 'decision_id' } });
    }
    expect((await give({ decision_id, verdict: 'right' }, { authorization: 'Bearer x' })).status).toBe(401);
    expect(await (await give({ decision_id, verdict: 'maybe' })).json()).toMatchObject({ error: { param: 'verdict' } });
    expect((await list('', OTHER_KEY)).data).toEqual([]);
  });

  it('comes page by page', async () => {
    const ids: string[] = [];
    for (let i = 0; i < 3; i++)
      ids.push((await post('/v1/chat/completions', chat('hi'))).headers.get('x-request-id') ?? '');
    for (const decision_id of ids) expect((await give({ decision_id, verdict: 'right' })).status).toBe(200);
    const seen: string[] = [];
    for (let after = '0'; ; ) {
      const { data, next } = await list(`?limit=2&after=${after}`);
      expect(data.length).toBeLessThanOrEqual(2);
      seen.push(...data.map((one) => one.decision_id));
      if (next === null) break;
      after = next;
    }
    expect(seen.slice(-3)).toEqual(ids);
    expect(new Set(seen).size).toBe(seen.length);
    expect(
      (await fetch(`${edge.url}/v1/feedback?limit=x`, { headers: { authorization: `Bearer ${KEY}` } })).status,
    ).toBe(400);
  });
});

describe('metrics', () => {
  it('are summed over what the isolate has told, by name and label', async () => {
    const before = await metrics();
    const value = (text: string, series: string) =>
      Number(
        text
          .split('\n')
          .find((line) => line.startsWith(`${series} `))
          ?.slice(series.length + 1) ?? 0,
      );
    near.respond = (response) => void startEvents(response).end(event('one') + DONE);
    for (let i = 0; i < 3; i++) await (await post('/v1/chat/completions', chat('hi', { stream: true }))).text();
    near.respond = answerStatus(503);
    await (await post('/v1/chat/completions', chat('hi', { stream: true }))).text();
    const grown = async (series: string) => value(await metrics(), series) - value(before, series);
    const base = 'path="/v1/chat/completions",model="chat",rule="rest"';
    await expect.poll(() => grown(`signpost_requests_total{${base},region="near",status="200"}`)).toBe(3);
    expect(await grown(`signpost_requests_total{${base},region="far",status="200"}`)).toBe(1);
    expect(await grown('signpost_retries_total')).toBe(1);
    expect(await grown('signpost_time_to_first_token_seconds_count{region="near"}')).toBe(3);
    expect(await grown('signpost_time_to_first_token_seconds_bucket{region="near",le="+Inf"}')).toBe(3);
    const text = await metrics();
    expect(text).toMatch(/signpost_breaker_isolates\{region="near",state="closed"\} 1/);
    expect(text).toMatch(/signpost_rules_isolates\{version="[0-9a-f]{12}",source="kv"\} 1/);
    expect(value(text, 'signpost_decisions')).toBeGreaterThan(3);
  });

  it('are for those with a key of theirs', async () => {
    expect((await fetch(`${edge.url}/metrics`)).status).toBe(401);
    expect((await fetch(`${edge.url}/metrics`, { headers: { authorization: `Bearer ${KEY}` } })).status).toBe(401);
    const none = await start({ variables: { METRICS_KEY_HASHES: '[]' } });
    try {
      expect(await (await fetch(`${none.url}/metrics`)).json()).toMatchObject({ error: { code: 'misconfigured' } });
    } finally {
      await none.close();
    }
  });
});
