/**
 * How an answer ended, as the gateway is told: once, whatever became of it.
 */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { forward, only } from '../src/forward/forward.ts';
import type { Outcome } from '../src/forward/outcome.ts';
import { FleetHealth } from '../src/forward/region-health.ts';
import { answerStatus, DONE, event, type Respond, startEvents, Upstream } from './upstream.ts';

let near: Upstream;
let far: Upstream;
beforeEach(async () => {
  [near, far] = await Promise.all([Upstream.start(), Upstream.start()]);
});
afterEach(() => Promise.all([near.close(), far.close()]));

const timeouts = {
  connectMs: 5_000,
  firstTokenMs: 5_000,
  answerMs: 5_000,
  idleMs: 5_000,
  keepAliveMs: 5_000,
  wakeMs: 5_000,
};
const USAGE = {
  prompt_tokens: 7,
  completion_tokens: 2,
  total_tokens: 9,
  prompt_tokens_details: { cached_tokens: 4 },
};
const DIGEST = 'd'.repeat(64);

/** Asks both regions, and keeps every outcome that is told. */
function ask(
  fields: Record<string, unknown>,
  options: { keepAliveMs?: number; health?: FleetHealth; promptTokens?: number } = {},
) {
  const app = new AbortController();
  const outcomes: Outcome[] = [];
  const answer = forward(
    {
      method: 'POST',
      path: '/v1/chat/completions',
      fields: { model: 'base', messages: [], ...fields },
      delivery: fields.stream === true ? 'stream' : 'whole',
      promptTokens: () => options.promptTokens ?? 0,
      tenant: undefined,
      headers: {},
      signal: app.signal,
    },
    only([
      { name: 'near', url: near.url },
      { name: 'far', url: far.url },
    ]),
    {
      signingKey: undefined,
      secrets: new Map(),
      timeouts: { ...timeouts, ...options },
      health: options.health ?? new FleetHealth(),
      log: () => {},
      onOutcome: (outcome) => outcomes.push(outcome),
    },
  ).then(({ status, headers, body }) => new Response(body, { status, headers }));
  const told = async (): Promise<Outcome> => {
    await expect.poll(() => outcomes.length, { timeout: 5_000, interval: 5 }).toBe(1);
    // What is told twice is told in the same turn, or at the app's leaving.
    app.abort(new Error('after its end'));
    await new Promise((resolve) => setImmediate(resolve));
    expect(outcomes).toHaveLength(1);
    return outcomes[0] ?? expect.unreachable();
  };
  return { answer, app, told };
}

const text = async (answer: Promise<Response>) => (await answer).text();

const chunk = (token: number, more: object = {}) =>
  `data: ${JSON.stringify({ id: 'a', choices: [{ index: 0, delta: { content: `t${token}` }, finish_reason: null, token_ids: [token] }], usage: null, ...more })}\n\n`;
const finish = `data: ${JSON.stringify({ id: 'a', choices: [{ index: 0, delta: {}, finish_reason: 'stop' }], usage: null })}\n\n`;
const usage = `data: ${JSON.stringify({ id: 'a', choices: [], usage: USAGE })}\n\n`;
const begun = chunk(1, { prompt_token_ids: [5, 6, 7] });
const streaming =
  (body: string, end: 'ends' | 'breaks' | 'stays' = 'ends'): Respond =>
  async (response) => {
    response.writeHead(200, { 'content-type': 'text/event-stream', 'x-signpost-digest': DIGEST }).write(body);
    if (end === 'ends') response.end();
    if (end !== 'breaks') return;
    await new Promise((resolve) => setTimeout(resolve, 30));
    response.destroy();
  };
const failing = answerStatus(503);

describe('a whole answer', () => {
  const whole = (more: object): Respond => answerStatus(200, JSON.stringify({ id: 'a', ...more }));

  it('ends with its usage, read from its end', async () => {
    near.respond = whole({
      choices: [{ message: { content: 'a "usage":{"completion_tokens":9} of words' } }],
      usage: USAGE,
      prompt_token_ids: [1],
    });
    const { answer, told } = ask({});
    await text(answer);
    expect(await told()).toEqual({
      ending: 'whole',
      status: 200,
      regions: ['near'],
      digests: undefined,
      resumes: 0,
      retries: 0,
      hedges: 0,
      headersMs: undefined,
      firstTokenMs: undefined,
      totalMs: expect.any(Number),
      errorCode: undefined,
      usage: { promptTokens: 7, completionTokens: 2, cachedTokens: 4, countedBy: 'region' },
    });
  });

  it('of another region counts the retry', async () => {
    near.respond = failing;
    far.respond = whole({ usage: USAGE });
    const { answer, told } = ask({});
    await text(answer);
    expect(await told()).toMatchObject({ ending: 'whole', regions: ['far'], retries: 1, hedges: 0, resumes: 0 });
  });

  it.each([
    ['blamed on the request', answerStatus(404, '{"error":{"code":"model_not_found"}}'), 404, 'model_not_found'],
    ['full everywhere', answerStatus(429, '{"error":{"code":"region_full"}}'), 429, 'region_full'],
  ])('%s is refused', async (_, respond, status, errorCode) => {
    near.respond = far.respond = respond;
    const { answer, told } = ask({});
    await text(answer);
    expect(await told()).toMatchObject({ ending: 'refused', status, errorCode, usage: undefined });
  });

  it('that no region has is a failure', async () => {
    near.respond = far.respond = failing;
    const { answer, told } = ask({});
    await expect(answer).rejects.toThrow('no region answered');
    expect(await told()).toMatchObject({
      ending: 'failed',
      status: 503,
      regions: [],
      retries: 1,
      errorCode: 'no_region_answered',
      usage: undefined,
    });
  });

  it('whose app left first has no region', async () => {
    near.respond = () => {};
    const { answer, app, told } = ask({});
    await expect.poll(() => near.requests.length, { interval: 5 }).toBe(1);
    app.abort(new Error('gone'));
    await expect(answer).rejects.toThrow('gone');
    expect(await told()).toMatchObject({ ending: 'left', status: 499, regions: [], errorCode: undefined });
  });
});

describe('a stream', () => {
  it('ends with the usage that the edge asked for, which the app that did not ask does not see', async () => {
    near.respond = streaming(begun + chunk(2) + finish + usage + DONE);
    const { answer, told } = ask({ stream: true });
    const seen = await text(answer);
    expect(seen).not.toMatch(/usage|token_ids/);
    expect(seen.match(/^data: /gm)).toHaveLength(4);
    expect(seen.endsWith(DONE)).toBe(true);
    expect(JSON.parse(near.last.body)).toMatchObject({ stream_options: { include_usage: true } });
    const outcome = await told();
    expect(outcome).toMatchObject({
      ending: 'whole',
      status: 200,
      regions: ['near'],
      digests: DIGEST,
      usage: { promptTokens: 7, completionTokens: 2, cachedTokens: 4, countedBy: 'region' },
    });
    const { headersMs = -1, firstTokenMs = -1, totalMs } = outcome;
    expect(headersMs).toBeGreaterThanOrEqual(0);
    expect(firstTokenMs).toBeGreaterThanOrEqual(headersMs);
    expect(totalMs).toBeGreaterThanOrEqual(firstTokenMs);
  });

  it('shows its usage to an app that asked', async () => {
    near.respond = streaming(begun + finish + usage + DONE);
    const { answer, told } = ask({ stream: true, stream_options: { include_usage: true, more: 1 } });
    const seen = await text(answer);
    expect(seen).toContain('"completion_tokens":2');
    expect(seen).toContain('"usage":null');
    expect(JSON.parse(near.last.body).stream_options).toEqual({ include_usage: true, more: 1 });
    expect((await told()).usage).toMatchObject({ completionTokens: 2 });
  });

  it('of several choices has its usage, too, and passes on what the app asked for', async () => {
    near.respond = streaming(begun + chunk(2) + finish + usage + DONE);
    const { answer, told } = ask({ stream: true, n: 2 });
    const seen = await text(answer);
    expect(seen).not.toContain('usage');
    expect(seen.match(/^data: /gm)).toHaveLength(4);
    expect(await told()).toMatchObject({ ending: 'whole', usage: { promptTokens: 7, countedBy: 'region' } });
    const asking = ask({ stream: true, n: 2, stream_options: { include_usage: true } });
    expect(await text(asking.answer)).toBe(begun + chunk(2) + finish + usage + DONE);
    expect(await asking.told()).toMatchObject({ ending: 'whole', usage: { promptTokens: 7 } });
  });

  it('that another region went on with names both', async () => {
    near.respond = streaming(begun, 'breaks');
    far.respond = streaming(chunk(2) + finish + usage + DONE);
    const { answer, told } = ask({ stream: true });
    await text(answer);
    expect(await told()).toMatchObject({
      ending: 'whole',
      regions: ['near', 'far'],
      resumes: 1,
      retries: 0,
      hedges: 0,
      usage: { promptTokens: 7, completionTokens: 2 },
    });
  });

  it('that broke for good counts what has passed', async () => {
    near.respond = async (response, request) => {
      near.respond = failing;
      await streaming(begun + chunk(2), 'breaks')(response, request);
    };
    far.respond = failing;
    const { answer, told } = ask({ stream: true });
    await (await answer).text().catch(() => '');
    expect(await told()).toMatchObject({
      ending: 'broken',
      status: 200,
      errorCode: 'upstream_broken',
      usage: { promptTokens: 3, completionTokens: 2, countedBy: 'passed' },
    });
  });

  it('of several choices that broke counts its chunks', async () => {
    near.respond = streaming(begun + chunk(2), 'breaks');
    const { answer, told } = ask({ stream: true, n: 2 });
    await (await answer).text().catch(() => '');
    expect(await told()).toMatchObject({
      ending: 'broken',
      usage: { promptTokens: undefined, completionTokens: 2, countedBy: 'passed' },
    });
  });

  it.each([
    ['leaves', (app: AbortController) => app.abort(new Error('left'))],
    ['stops reading', (_: AbortController, reader: ReadableStreamDefaultReader) => void reader.cancel('enough')],
  ])('whose app %s counts what has passed', async (_, leave) => {
    near.respond = streaming(begun, 'stays');
    const { answer, app, told } = ask({ stream: true });
    const reader = (await answer).body?.getReader() ?? expect.unreachable();
    await reader.read();
    leave(app, reader);
    expect(await told()).toMatchObject({
      ending: 'left',
      regions: ['near'],
      usage: { promptTokens: 3, completionTokens: 1, countedBy: 'passed' },
    });
    await near.last.aborted;
  });

  it('whose app left before it read anything has its region, and what was sent', async () => {
    near.respond = streaming(begun, 'stays');
    const { answer, told } = ask({ stream: true });
    await (await answer).body?.cancel();
    expect(await told()).toMatchObject({ ending: 'left', regions: ['near'], usage: { completionTokens: 1 } });
  });

  it('blamed on the request half way is refused, and one that a region failed is broken', async () => {
    const said = (type: string) =>
      `data: ${JSON.stringify({ error: { message: 'm', type, param: null, code: 'c' } })}\n\n`;
    near.respond = streaming(begun + said('invalid_request_error') + DONE);
    const blamed = ask({ stream: true });
    await text(blamed.answer);
    expect(await blamed.told()).toMatchObject({ ending: 'refused', errorCode: 'c' });
    near.respond = streaming(begun + said('server_error') + DONE);
    const failed = ask({ stream: true, n: 2 });
    await text(failed.answer);
    expect(await failed.told()).toMatchObject({ ending: 'broken', errorCode: 'c' });
  });

  it('begun with comments that no region came to is a failure', async () => {
    near.respond = far.respond = async (response, request) => {
      await new Promise((resolve) => setTimeout(resolve, 60));
      await failing(response, request);
    };
    const { answer, told } = ask({ stream: true }, { keepAliveMs: 20 });
    expect(await (await answer).text().catch(() => '')).not.toContain('[DONE]');
    expect(await told()).toMatchObject({ ending: 'failed', status: 200, regions: [], errorCode: 'upstream_broken' });
  });

  it('counts a hedge, and not the one it beat as a retry', async () => {
    const health = new FleetHealth();
    for (let i = 0; i < 20; i++) health.of('near').took(1);
    near.respond = () => {};
    far.respond = (response) => void startEvents(response).end(event('x') + DONE);
    const { answer, told } = ask({ stream: true }, { health });
    await text(answer);
    expect(await told()).toMatchObject({ ending: 'whole', regions: ['far'], hedges: 1, retries: 0, resumes: 0 });
  });
});

it('counts a prompt against a region from when it is sent until it is answered, or has failed', async () => {
  const health = new FleetHealth();
  const waiting = () => ['near', 'far'].map((region) => health.of(region).sent.waiting(undefined, 1, Date.now()) > 0);
  const during: boolean[][] = [];
  near.respond = (response) => {
    during.push(waiting());
    answerStatus(503)(response, near.last);
  };
  far.respond = (response) => {
    during.push(waiting());
    response.writeHead(200, { 'content-type': 'application/json' }).end('{}');
  };
  // Minutes, at the usual rate.
  await text(ask({}, { health, promptTokens: 1_000_000 }).answer);
  expect([...during, waiting()]).toEqual([
    [true, false],
    [false, true],
    [false, false],
  ]);
});

it.each([
  ['expert_unavailable', 'closed'],
  ['internal_error', 'open'],
])('a region that says %s, time and again, has a breaker that is %s', async (code, state) => {
  const health = new FleetHealth();
  const body = JSON.stringify({ error: { message: 'm', type: 'server_error', param: null, code } });
  near.respond = answerStatus(503, body);
  far.respond = (response) => void response.writeHead(200, { 'content-type': 'application/json' }).end('{}');
  for (let i = 0; i < 6; i++) await text(ask({}, { health }).answer);
  expect(health.of('near').breaker.state(Date.now())).toBe(state);
});
