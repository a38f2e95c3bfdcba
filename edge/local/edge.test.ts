/**
 * The Worker in real workerd, in front of real HTTP servers.
 */
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { connect } from 'node:net';
import { HEARTBEAT_PATH, type Heartbeat, SeenTokens, signingKey, verifyRequest } from '@signpost/contracts';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { type EdgeHandle, startEdge } from './edge.ts';
import { heartbeatOf, tellEdge } from './heartbeats.ts';
import { answerStatus, answerWhole, DONE, event, gate, startEvents, Upstream } from './upstream.ts';

const KEY = 'sk-test-key';
const ADMIN_KEY = 'an-administrators-key';
const SECRET = randomBytes(32).toString('hex');

let near: Upstream;
let far: Upstream;
let edge: EdgeHandle;
const log: string[] = [];

beforeAll(async () => {
  [near, far] = await Promise.all([Upstream.start(), Upstream.start()]);
  edge = await startEdge({
    regions: [
      { name: 'far', url: far.url, continent: 'OC' },
      { name: 'near', url: `${near.url}/prefix/`, latitude: 48.1, longitude: 11.6 },
    ],
    regionSecret: SECRET,
    keys: { [KEY]: 'acme' },
    adminKeys: { [ADMIN_KEY]: 'ada' },
    place: { continent: 'EU', country: 'DE', colo: 'FRA', latitude: '50.1', longitude: '8.7' },
    variables: {
      CONNECT_TIMEOUT_MS: '800',
      FIRST_TOKEN_TIMEOUT_MS: '1200',
      ANSWER_TIMEOUT_MS: '1500',
      IDLE_TIMEOUT_MS: '1000',
      KEEP_ALIVE_MS: '5000',
    },
    // What went as it should is told in accounts.test.ts.
    onLog: ({ message }) => void (message.startsWith('{"event":"decision"') || log.push(message)),
  });
});

afterAll(async () => {
  await edge?.close();
  await Promise.all([near?.close(), far?.close()]);
});

beforeEach(() => {
  for (const region of [near, far]) {
    region.requests.length = 0;
    region.respond = answerWhole('hello');
  }
  log.length = 0;
});

function post(path: string, body: unknown, init: RequestInit = {}): Promise<Response> {
  return fetch(`${edge.url}${path}`, {
    method: 'POST',
    body: typeof body === 'string' ? body : JSON.stringify(body),
    ...init,
    headers: { authorization: `Bearer ${KEY}`, ...init.headers },
  });
}

const chat = (content: string, more: Record<string, unknown> = {}) => ({
  model: 'auto',
  messages: [{ role: 'user', content }],
  ...more,
});

async function untilReady(): Promise<void> {
  await expect.poll(async () => (await health()).classifier.status, { timeout: 20_000, interval: 50 }).toBe('ready');
}

/** What has failed often is left alone for a while. */
async function untilNearIsAsked(): Promise<void> {
  for (const giveUp = Date.now() + 40_000; Date.now() < giveUp; ) {
    near.respond = far.respond = answerWhole('hello');
    const answer = await post('/v1/chat/completions', chat('hi'));
    if (answer.headers.get('x-signpost-region') === 'near') break;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  for (const region of [near, far]) region.requests.length = 0;
  log.length = 0;
}

async function health(): Promise<{ classifier: { status: string; detail?: string }; [key: string]: unknown }> {
  const headers = { authorization: `Bearer ${ADMIN_KEY}` };
  return (await fetch(`${edge.url}/health`, { headers })).json() as ReturnType<typeof health>;
}

describe('classifier', () => {
  it('is cold for the first request, which pattern rules route without waiting, and ready soon after', async () => {
    const first = await post('/v1/chat/completions', chat('What is 17 * 23?'));
    expect(first.status).toBe(200);
    expect(first.headers.get('x-signpost-classifier')).toBe('cold');
    expect(first.headers.get('x-signpost-rule')).toBe('sum');
    expect(first.headers.get('x-signpost-expert')).toBe('math');
    expect(first.headers.has('x-signpost-label')).toBe(false);
    await untilReady();
    const later = await post('/v1/chat/completions', chat('Why is the sky blue?'));
    expect(later.headers.get('x-signpost-classifier')).toMatch(/^(ready|abstained)$/);
    expect(['math', 'code', 'chat']).toContain(later.headers.get('x-signpost-label'));
    expect(Number(later.headers.get('x-signpost-confidence'))).toBeGreaterThan(1 / 3);
  });

  it('skips a prompt of token ids', async () => {
    const answer = await post('/v1/completions', { model: 'math', prompt: [1, 2, 3] });
    expect(answer.headers.get('x-signpost-classifier')).toBe('skipped');
    expect(answer.headers.has('x-signpost-label')).toBe(false);
  });
});

describe('health', () => {
  it('tells administrators how the regions are, and everybody else that the edge is there', async () => {
    expect(await health()).toMatchObject({ status: 'ok', rules: {}, regions: [{ name: 'far' }, { name: 'near' }] });
    for (const headers of [{}, { authorization: `Bearer ${KEY}` }, { authorization: 'Bearer guess' }]) {
      const answer = await fetch(`${edge.url}/health`, { headers });
      expect([answer.status, await answer.json()]).toEqual([200, { status: 'ok' }]);
    }
  });
});

describe('forwarding', () => {
  it('sends the app’s body with only the model replaced, signed for the nearest region', async () => {
    const sent = chat('3 + 4 =', { temperature: 0, metadata: { a: [1, { b: null }] }, some_future_field: 'kept' });
    const answer = await post('/v1/chat/completions', sent, {
      headers: { 'x-request-id': 'req-1', 'x-signpost-timeout-ms': '5000' },
    });
    expect(await answer.json()).toEqual({ choices: [{ message: { role: 'assistant', content: 'hello' } }] });
    expect(answer.headers.get('x-signpost-region')).toBe('near');
    expect(answer.headers.get('x-request-id')).toBe('req-1');
    expect(far.requests).toHaveLength(0);
    const { headers, body, method, path } = near.last;
    expect(JSON.parse(body)).toEqual({ ...sent, model: 'math' });
    expect(path).toBe('/prefix/v1/chat/completions');
    expect(headers['x-request-id']).toBe('req-1');
    expect(headers['x-signpost-timeout-ms']).toBe('5000');
    expect(headers.authorization).not.toContain(KEY);
    const caller = await verifyRequest(
      [signingKey(SECRET)],
      headers.authorization ?? null,
      { region: 'near', method, path, body },
      new SeenTokens(),
    );
    expect(caller).toEqual({ tenant: 'acme' });
  });

  it('hands an explicitly named model on as it is, and the region’s refusal back', async () => {
    near.respond = answerStatus(404, '{"error":{"code":"unknown_model"}}');
    const answer = await post('/v1/chat/completions', chat('hi', { model: 'math:1+chat:0.3' }));
    expect(answer.status).toBe(404);
    expect(await answer.json()).toEqual({ error: { code: 'unknown_model' } });
    expect(answer.headers.get('x-signpost-rule')).toBe('requested');
    expect(answer.headers.get('x-signpost-region')).toBe('near');
    expect(JSON.parse(near.last.body).model).toBe('math:1+chat:0.3');
    expect(far.requests).toHaveLength(0);
  });

  it('tries the next region when one is down, unavailable, or silent', async () => {
    for (const respond of [
      answerStatus(503, '{"error":{}}'),
      answerStatus(502),
      answerStatus(200),
      (response: { destroy(): void }) => response.destroy(),
      () => {},
    ]) {
      near.respond = respond as Upstream['respond'];
      const answer = await post('/v1/chat/completions', chat('hi', { stream: true }));
      expect(answer.status).toBe(200);
      expect(answer.headers.get('x-signpost-region')).toBe('far');
      await answer.text();
      // A region that fails again and again would be left alone.
      near.respond = answerWhole('well');
      expect((await post('/v1/chat/completions', chat('hi'))).headers.get('x-signpost-region')).toBe('near');
    }
  });

  it('tries the next region when one breaks off an answer that is not streamed: the app has got nothing yet', async () => {
    near.respond = async (response) => {
      response.writeHead(200, { 'content-type': 'application/json' }).write('{"choices":');
      await new Promise((resolve) => setTimeout(resolve, 50));
      response.destroy();
    };
    const answer = await post('/v1/chat/completions', chat('hi'));
    expect(answer.headers.get('x-signpost-region')).toBe('far');
    expect(await answer.json()).toMatchObject({ choices: [{ message: { content: 'hello' } }] });
  });

  it('says what became of each region when none answers', async () => {
    near.respond = answerStatus(503, 'draining');
    far.respond = () => {};
    const answer = await post('/v1/chat/completions', chat('hi', { stream: true, model: 'math' }));
    expect(answer.status).toBe(503);
    expect(await answer.json()).toEqual({
      error: {
        message: 'no region answered (near: answered 503 draining; far: no sign of life for 800 ms)',
        type: 'server_error',
        param: null,
        code: 'no_region_answered',
      },
    });
    expect(answer.headers.get('x-signpost-rule')).toBe('requested');
  });

  it('lists the region’s models, and auto', async () => {
    const math = { id: 'math', object: 'model', created: 1, owned_by: 'x', parent: 'base', root: 'abc' };
    near.respond = answerStatus(200, JSON.stringify({ object: 'list', data: [math] }));
    const answer = await fetch(`${edge.url}/v1/models`, { headers: { authorization: `Bearer ${KEY}` } });
    const { data } = (await answer.json()) as { data: { id: string }[] };
    expect(data.map(({ id }) => id)).toEqual(['auto', 'math']);
    expect(near.last).toMatchObject({ method: 'GET', path: '/prefix/v1/models', body: '' });
  });
});

describe('tokens', () => {
  it('are those of the model that would answer', async () => {
    const tokens = { count: 2, max_model_len: 8, tokens: [1, 2], token_strs: null };
    near.respond = answerStatus(200, JSON.stringify(tokens));
    const answer = await post('/tokenize', { model: 'auto', prompt: '3 + 4 =', return_token_strs: false });
    expect(await answer.json()).toEqual(tokens);
    expect(answer.headers.get('x-signpost-rule')).toBe('sum');
    expect(near.last).toMatchObject({ method: 'POST', path: '/prefix/tokenize' });
    expect(JSON.parse(near.last.body)).toEqual({ model: 'math', prompt: '3 + 4 =', return_token_strs: false });
    await post('/tokenize', { model: 'auto', messages: [{ role: 'user', content: 'What is 3 + 4?' }] });
    expect(JSON.parse(near.last.body).model).toBe('math');
    await post('/tokenize', { prompt: '3 + 4 =' });
    expect(JSON.parse(near.last.body).model).toBe('base');
    await post('/detokenize', { model: 'code', tokens: [1, 2] });
    expect(near.last.path).toBe('/prefix/detokenize');
    expect(JSON.parse(near.last.body)).toEqual({ model: 'code', tokens: [1, 2] });
  });

  it('are refused like the request itself', async () => {
    const both = await post('/tokenize', { prompt: 'a', messages: [{ role: 'user', content: 'b' }] });
    expect(await both.json()).toMatchObject({ error: { code: 'invalid_value', param: 'prompt' } });
    expect((await post('/detokenize', { tokens: [-1] })).status).toBe(400);
    expect((await fetch(`${edge.url}/tokenize`, { method: 'POST', body: '{}' })).status).toBe(401);
    expect(near.requests).toHaveLength(0);
  });
});

describe('streaming', () => {
  it('passes each event on as it comes, in a chunk of its own', async () => {
    const written = Array.from({ length: 8 }, (_, i) => ({ text: event(`token ${i}`), arrived: gate() }));
    near.respond = async (response) => {
      startEvents(response);
      // None is written before the last one has gone all the way.
      for (const { text, arrived } of written) {
        response.write(text);
        await arrived.opened;
      }
      response.end(DONE);
    };
    const answer = await post('/v1/chat/completions', chat('hi', { stream: true }));
    expect(answer.headers.get('content-type')).toBe('text/event-stream');
    const chunks = readChunks(answer);
    for (const { text, arrived } of written) {
      expect((await chunks.next()).value).toBe(text);
      arrived.open();
    }
    expect(await rest(chunks)).toBe(DONE);
  });

  it('puts events together that arrive in pieces', async () => {
    const whole = event('größe') + event('zwei') + DONE;
    near.respond = async (response) => {
      startEvents(response);
      for (const byte of Buffer.from(whole)) {
        response.write(Buffer.of(byte));
        await new Promise((resolve) => setImmediate(resolve));
      }
      response.end();
    };
    const answer = await post('/v1/chat/completions', chat('hi', { stream: true }));
    expect(await answer.text()).toBe(whole);
  });

  it('stops the region when the app is gone', async () => {
    const begun = gate();
    near.respond = (response) => {
      startEvents(response).write(event('one'));
      begun.open();
    };
    const app = leavingApp(chat('hi', { stream: true }));
    await begun.opened;
    await app.read;
    app.leave();
    await near.last.aborted;
    // And not because the stream was idle for too long.
    expect(log).toEqual([]);
  });

  it('stops the region when the app is gone before the first byte, and asks no other', async () => {
    const asked = gate();
    near.respond = () => asked.open();
    const app = leavingApp(chat('hi'));
    await asked.opened;
    app.leave();
    await near.last.aborted;
    expect(far.requests).toHaveLength(0);
    expect(log).toEqual([]);
  });

  it.each([
    ['dies', (response: { destroy(): void }) => response.destroy()],
    ['ends short of [DONE]', (response: { end(): void }) => response.end()],
    ['falls silent', () => {}],
  ])('ends in an error event, never in [DONE], when the region %s', async (_, fail) => {
    near.respond = async (response) => {
      startEvents(response).write(`${event('one')}data: {"half`);
      await new Promise((resolve) => setTimeout(resolve, 50));
      fail(response);
    };
    // Of two choices none can be gone on with elsewhere.
    const answer = await post('/v1/chat/completions', chat('hi', { stream: true, n: 2 }));
    expect(answer.status).toBe(200);
    const text = await answer.text();
    expect(far.requests).toHaveLength(0);
    expect(text).toContain(event('one'));
    expect(text).not.toContain('half');
    expect(text).not.toContain('[DONE]');
    const last = JSON.parse(text.trimEnd().split('\n\n').at(-1)?.slice('data: '.length) ?? '');
    expect(last.error).toMatchObject({ type: 'server_error', code: 'upstream_broken' });
  });
});

describe('explanation', () => {
  beforeAll(untilNearIsAsked);

  it('decides as serving does', async () => {
    await untilReady();
    for (const ask of [
      chat('What is 3 + 4?'),
      chat('Write a function that reverses a list.'),
      chat('Tell me about the weather in Lisbon.'),
      chat('hi', { model: 'math@stable' }),
      { model: 'auto', prompt: 'SELECT a FROM b' },
    ]) {
      const explained = (await (await post('/v1/route', ask)).json()) as Explained;
      expect(near.requests).toHaveLength(0);
      const path = 'prompt' in ask ? '/v1/completions' : '/v1/chat/completions';
      const { headers } = await post(path, ask);
      expect(headers.get('x-signpost-rule')).toBe(explained.rule);
      expect(headers.get('x-signpost-expert')).toBe(explained.model);
      expect(headers.get('x-signpost-region')).toBe(explained.plan[0]?.region);
      expect(headers.get('x-signpost-classifier')).toBe(explained.classifier.state);
      expect(headers.get('x-signpost-label')).toBe(explained.classification?.label ?? null);
      expect(headers.get('x-signpost-confidence')).toBe(explained.classification?.confidence.toFixed(4) ?? null);
      expect(JSON.parse(near.last.body).model).toBe(explained.model);
      near.requests.length = 0;
    }
  });

  it('shows probabilities, passed rules and each region’s time in its terms', async () => {
    await untilReady();
    const explained = (await (await post('/v1/route', chat('3 + 4 ='))).json()) as Explained;
    const probabilities = Object.values(explained.classification?.probabilities ?? {});
    expect(probabilities).toHaveLength(3);
    expect(probabilities.reduce((sum, p) => sum + p, 0)).toBeCloseTo(1, 4);
    expect(explained.passed).toContainEqual({ rule: 'requested', result: false });
    expect(explained.request).toMatchObject({ tenant: 'acme', continent: 'EU', colo: 'FRA' });
    expect(explained.plan.map(({ region }) => region)).toEqual(['near', 'far']);
    for (const { total_ms, terms } of explained.plan)
      expect(terms.reduce((sum, { ms }) => sum + ms, 0)).toBeCloseTo(total_ms, 6);
  });
});

interface Explained {
  rule: string;
  model: string;
  request: Record<string, unknown>;
  classifier: { state: string };
  classification: { label: string; confidence: number; probabilities: Record<string, number> } | null;
  passed: { rule: string; result: unknown }[];
  plan: { region: string; total_ms: number; terms: { term: string; ms: number; why: string }[] }[];
}

describe('requests that are not served', () => {
  it.each([
    ['no key', {}, 'missing_api_key'],
    ['another scheme', { authorization: 'Basic abc' }, 'invalid_api_key'],
    ['an unknown key', { authorization: 'Bearer sk-other' }, 'invalid_api_key'],
  ])('%s: 401', async (_, headers, code) => {
    for (const path of ['/v1/chat/completions', '/v1/route', '/v1/models']) {
      const get = path === '/v1/models';
      const answer = await fetch(`${edge.url}${path}`, {
        headers: headers as Record<string, string>,
        ...(get ? {} : { method: 'POST', body: JSON.stringify(chat('hi')) }),
      });
      expect(answer.status).toBe(401);
      expect(await answer.json()).toMatchObject({ error: { type: 'authentication_error', code } });
    }
    expect(near.requests).toHaveLength(0);
  });

  it.each([
    ['malformed JSON', '{"model": "auto",', 400, 'invalid_json', null],
    ['no messages', { model: 'auto', messages: [] }, 400, 'invalid_value', 'messages'],
    ['no model', { messages: [{ role: 'user', content: 'hi' }] }, 400, 'invalid_value', 'model'],
    ['a setting that would be ignored', chat('hi', { best_of: 2 }), 400, 'invalid_value', 'best_of'],
    ['a model name that is none', chat('hi', { model: 'Math!' }), 400, 'invalid_model', 'model'],
    ['too much', ' '.repeat(5 * 1024 * 1024), 413, 'body_too_large', null],
  ])('%s: an error that names the cause', async (_, body, status, code, param) => {
    for (const path of ['/v1/chat/completions', '/v1/route']) {
      const answer = await post(path, body);
      expect(answer.status).toBe(status);
      expect(await answer.json()).toMatchObject({ error: { type: 'invalid_request_error', code, param } });
      expect(answer.headers.get('x-request-id')).toMatch(/.{8}/);
    }
    expect(near.requests).toHaveLength(0);
  });

  it('unknown paths are 404, wrong methods 405', async () => {
    expect((await post('/v1/embeddings', {})).status).toBe(404);
    expect((await post('/constructor', {})).status).toBe(404);
    const wrong = await fetch(`${edge.url}/v1/chat/completions`);
    expect(wrong.status).toBe(405);
    expect(wrong.headers.get('allow')).toBe('POST');
  });
});

/**
 * An app that hangs up: its socket is reset, since workerd takes a socket that is only closed for one that may still be written to, until it
 * writes. (On Cloudflare the network in front of it knows.)
 */
function leavingApp(body: unknown): { readonly read: Promise<unknown>; leave(): void } {
  const { hostname, port } = new URL(edge.url);
  const socket = connect(Number(port), hostname).on('error', () => {});
  const text = JSON.stringify(body);
  socket.write(
    `POST /v1/chat/completions HTTP/1.1\r\nhost: edge\r\nauthorization: Bearer ${KEY}\r\ncontent-length: ${text.length}\r\n\r\n${text}`,
  );
  return { read: once(socket, 'data'), leave: () => socket.resetAndDestroy() };
}

async function* readChunks(answer: Response): AsyncGenerator<string, undefined> {
  const decoder = new TextDecoder();
  if (answer.body === null) return;
  for await (const chunk of answer.body) yield decoder.decode(chunk, { stream: true });
}

async function rest(chunks: AsyncGenerator<string, undefined>): Promise<string> {
  let text = '';
  for await (const chunk of chunks) text += chunk;
  return text;
}

describe('heartbeats', () => {
  const REPLICA = '11111111-1111-4111-8111-111111111111';
  const beat = (more: Partial<Heartbeat> = {}) =>
    heartbeatOf('near', { replica: REPLICA, running: 3, waiting: 1, ...more });
  async function tell(said: unknown, secret = SECRET): Promise<{ status: number; body: unknown }> {
    const answer = await tellEdge(edge.url, said, secret);
    return { status: answer.status, body: await answer.json() };
  }
  const region = async (name: string) =>
    ((await health()).regions as { name: string }[]).find((one) => one.name === name);

  it('are taken from the regions alone, and shown', async () => {
    expect(await tell(beat())).toEqual({ status: 200, body: { heard: true } });
    expect(await tell(beat({ sentAt: 5 }))).toEqual({ status: 200, body: { heard: false } });
    expect((await tell(beat(), 'x'.repeat(64))).status).toBe(401);
    expect((await post(HEARTBEAT_PATH, beat())).status).toBe(401);
    expect(await tell(beat({ region: 'elsewhere' }))).toMatchObject({
      status: 400,
      body: { error: { code: 'unknown_region' } },
    });
    expect(await tell({ ...beat(), waiting: -1 })).toMatchObject({
      status: 400,
      body: { error: { param: 'waiting' } },
    });
    await expect
      .poll(() => region('near'), { timeout: 5_000 })
      .toMatchObject({
        replicas: [{ running: 3, waiting: 1, draining: false, heard_ms_ago: expect.any(Number) }],
      });
    expect(await region('far')).toMatchObject({ breaker: 'closed', replicas: [] });
  });

  it('that say a region drains send requests elsewhere, until it is back', async () => {
    const first = async () =>
      (await post('/v1/completions', { model: 'math', prompt: 'x' })).headers.get('x-signpost-region');
    expect(await first()).toBe('near');
    await tell(beat({ draining: true }));
    await expect.poll(first, { timeout: 5_000 }).toBe('far');
    await tell(beat());
    await expect.poll(first, { timeout: 5_000 }).toBe('near');
  });
});

describe('a stream that breaks', () => {
  beforeEach(untilNearIsAsked);

  const DIGESTS = ['1', '2'].map((letter) => letter.repeat(64));
  const chunk = (content: string, token: number, more: object = {}) =>
    `data: ${JSON.stringify({ id: 'chatcmpl-near', created: 1, model: 'm', choices: [{ index: 0, delta: { content }, finish_reason: null, token_ids: [token] }], ...more })}\n\n`;
  const head = (id: string) =>
    `data: ${JSON.stringify({ id, created: 1, model: 'm', choices: [{ index: 0, delta: { role: 'assistant', content: '' }, finish_reason: null }], prompt_token_ids: [7, 8] })}\n\n`;
  const finish = `data: ${JSON.stringify({ id: 'chatcmpl-far', created: 9, model: 'x', choices: [{ index: 0, delta: {}, finish_reason: 'stop' }] })}\n\n`;
  const begin = (response: Parameters<typeof startEvents>[0]) =>
    response.writeHead(200, { 'content-type': 'text/event-stream', 'x-signpost-digest': DIGESTS.join('+') });
  const breaking = (text: string) => async (response: Parameters<typeof startEvents>[0]) => {
    begin(response).write(text);
    await new Promise((resolve) => setTimeout(resolve, 50));
    response.destroy();
  };
  const ask = (more: object = {}) =>
    post('/v1/chat/completions', chat('hi', { stream: true, model: 'math:1+chat:0.5', ...more }));
  const payloads = (text: string) =>
    text
      .trimEnd()
      .split('\n\n')
      .filter((one) => one.startsWith('data: {'))
      .map(
        (one) =>
          JSON.parse(one.slice(6)) as { id: string; created: number; choices: { delta: { content?: string } }[] },
      );

  it('goes on from another region, with what the app was sent and the very experts, and the app sees one answer', async () => {
    near.respond = breaking(`${head('chatcmpl-near')}${chunk('one ', 11)}${chunk('two ', 12)}data: {"half`);
    far.respond = (response) =>
      void begin(response).end(chunk('three', 13, { id: 'other', created: 5 }) + finish + DONE);
    const answer = await ask();
    expect(answer.headers.get('x-signpost-region')).toBe('near');
    const text = await answer.text();
    expect(text.endsWith(DONE)).toBe(true);
    const chunks = payloads(text);
    expect(chunks.map(({ choices }) => choices[0]?.delta.content ?? '').join('')).toBe('one two three');
    expect(new Set(chunks.map(({ id, created }) => `${id} ${created}`))).toEqual(new Set(['chatcmpl-near 1']));
    expect(text).not.toMatch(/token_ids|half/);
    const sent = JSON.parse(near.last.body);
    expect(sent).toMatchObject({ return_token_ids: true, seed: expect.any(Number) });
    expect(JSON.parse(far.last.body)).toEqual({
      ...sent,
      model: `math@${DIGESTS[0]}:1+chat@${DIGESTS[1]}:0.5`,
      resume_token_ids: [11, 12],
    });
    expect(log.join()).toMatch(/"stream_resumed".*"from":"near","to":"far","tokens":2/);
  });

  it('keeps the app’s own seed, draws none where nothing is drawn, and hands on the ids that were asked for', async () => {
    near.respond = breaking(head('chatcmpl-near') + chunk('one', 11));
    far.respond = (response) => void begin(response).end(finish + DONE);
    const text = await (await ask({ seed: 5, return_token_ids: true })).text();
    expect(JSON.parse(far.last.body)).toMatchObject({ seed: 5, resume_token_ids: [11] });
    expect(text).toMatch(/"token_ids":\[11\]/);
    expect(text).toMatch(/"prompt_token_ids":\[7,8\]/);
    near.respond = breaking(head('chatcmpl-near') + chunk('one', 11));
    await (await ask({ temperature: 0 })).text();
    expect(JSON.parse(far.last.body)).not.toHaveProperty('seed');
  });

  it('is not told twice that it has ended, and needs no other region where only the end was missing', async () => {
    near.respond = breaking(head('chatcmpl-near') + chunk('one', 11) + finish);
    const text = await (await ask()).text();
    expect(far.requests).toHaveLength(0);
    expect(text.match(/"finish_reason":"stop"/g)).toHaveLength(1);
    expect(text.endsWith(DONE)).toBe(true);
    const usage = `data: ${JSON.stringify({ id: 'z', choices: [], usage: { completion_tokens: 1 } })}\n\n`;
    near.respond = breaking(head('chatcmpl-near') + chunk('one', 11) + finish);
    far.respond = (response) => void begin(response).end(finish + usage + DONE);
    const counted = await (await ask({ stream_options: { include_usage: true } })).text();
    expect(counted.match(/"finish_reason":"stop"/g)).toHaveLength(1);
    expect(counted).toContain('"usage":{"completion_tokens":1}');
  });

  it('goes on elsewhere, too, when its region says that it failed, and not when the request is to blame', async () => {
    const said = (type: string) =>
      `data: ${JSON.stringify({ error: { message: 'm', type, param: null, code: 'c' } })}\n\n`;
    near.respond = (response) =>
      void begin(response).end(head('chatcmpl-near') + chunk('one ', 11) + said('server_error'));
    far.respond = (response) => void begin(response).end(chunk('two', 12) + finish + DONE);
    expect(
      payloads(await (await ask()).text())
        .map(({ choices }) => choices[0]?.delta.content ?? '')
        .join(''),
    ).toBe('one two');
    far.requests.length = 0;
    near.respond = (response) => void begin(response).end(head('chatcmpl-near') + said('invalid_request_error') + DONE);
    expect(await (await ask()).text()).toContain('"type":"invalid_request_error"');
    expect(far.requests).toHaveLength(0);
  });

  it('ends in an error event where no region can go on', async () => {
    near.respond = breaking(head('chatcmpl-near') + chunk('one', 11));
    far.respond = answerStatus(404, '{"error":{"code":"model_not_found"}}');
    const text = await (await ask()).text();
    expect(text).toContain('upstream_broken');
    expect(text).not.toContain('[DONE]');
  });
});

describe('before the first token', () => {
  beforeEach(untilNearIsAsked);

  it('a region that is full is passed over, and what it said is the answer where all are', async () => {
    near.respond = (response) =>
      void response
        .writeHead(429, { 'content-type': 'application/json', 'retry-after': '7' })
        .end('{"error":{"code":"region_full"}}');
    expect((await post('/v1/chat/completions', chat('hi'))).headers.get('x-signpost-region')).toBe('far');
    far.respond = near.respond;
    const full = await post('/v1/chat/completions', chat('hi'));
    expect([full.status, full.headers.get('retry-after')]).toEqual([429, '7']);
  });

  it('an app that waits hears comments, and then the answer', async () => {
    const patient = await startEdge({
      regions: [{ name: 'near', url: near.url }],
      variables: { KEEP_ALIVE_MS: '100', CONNECT_TIMEOUT_MS: '2000' },
      onLog: () => undefined,
    });
    try {
      near.respond = async (response) => {
        await new Promise((resolve) => setTimeout(resolve, 1_200));
        startEvents(response).end(event('late') + DONE);
      };
      const url = `${patient.url}/v1/chat/completions`;
      const body = JSON.stringify(chat('hi', { stream: true }));
      const text = await (await fetch(url, { method: 'POST', body })).text();
      expect(text.match(/: keep-alive\n\n/g)?.length).toBeGreaterThanOrEqual(2);
      expect(text.endsWith(event('late') + DONE)).toBe(true);
      near.respond = async (response) => {
        await new Promise((resolve) => setTimeout(resolve, 250));
        answerStatus(503)(response, near.last);
      };
      const failed = await (await fetch(url, { method: 'POST', body })).text();
      expect(failed).toContain('upstream_broken');
      expect(failed).not.toContain('[DONE]');
    } finally {
      await patient.close();
    }
  });

  it('a region that takes longer than it usually does is raced with the next, and cancelled when it loses', async () => {
    far.respond = near.respond = (response) => void startEvents(response).end(event('quick') + DONE);
    const ask = () => post('/v1/chat/completions', chat('hi', { stream: true }));
    const asked = async () => {
      await (await ask()).text();
      return (await health()).regions;
    };
    await expect
      .poll(asked, { timeout: 20_000, interval: 1 })
      .toContainEqual(expect.objectContaining({ name: 'near', hedge_after_ms: expect.any(Number) }));
    near.respond = () => {};
    const answer = await ask();
    expect(answer.headers.get('x-signpost-region')).toBe('far');
    expect(await answer.text()).toBe(event('quick') + DONE);
    await near.last.aborted;
  });
});
