/**
 * Managed API keys, in real workerd: made and revoked over the admin API, and held to their limits.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { isKeyText, newKeyText } from '../src/keys/key-text.ts';
import type { KeyView } from '../src/keys/record.ts';
import { type EdgeHandle, startEdge } from './edge.ts';
import { answerStatus, answerWhole, DONE, event, gate, startEvents, Upstream } from './upstream.ts';

const ADMIN_KEY = 'an-administrators-key';
const STATIC_KEY = 'sk-static';

let region: Upstream;
let edge: EdgeHandle;
const log: string[] = [];

const options = () => ({
  regions: [{ name: 'near', url: region.url }],
  keys: { [STATIC_KEY]: 'old' },
  adminKeys: { [ADMIN_KEY]: 'ada' },
  // An app that closes its connection is noticed by the next that it is sent.
  variables: { KEEP_ALIVE_MS: '200' },
  onLog: ({ message }: { message: string }) => void log.push(message),
});

beforeAll(async () => {
  region = await Upstream.start();
  edge = await startEdge(options());
});
afterAll(async () => {
  await edge?.close();
  await region?.close();
});
beforeEach(() => {
  region.requests.length = 0;
  region.respond = answerWhole('hello');
});

async function admin(method: string, at: string, body?: unknown, key = ADMIN_KEY, base = edge.url) {
  const response = await fetch(`${base}/admin/${at}`, {
    method,
    headers: { authorization: `Bearer ${key}` },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  return { status: response.status, headers: response.headers, body: await response.json() };
}

async function createKey(wanted: Record<string, unknown>, base = edge.url): Promise<KeyView & { key: string }> {
  const created = await admin('POST', 'keys', { tenant: 'acme', ...wanted }, ADMIN_KEY, base);
  expect([created.status, created.body]).toEqual([201, expect.anything()]);
  return created.body as KeyView & { key: string };
}

/** How a key stands. */
const limits = async (id: string, base = edge.url) =>
  (
    (await admin('GET', `keys/${id}`, undefined, ADMIN_KEY, base)).body as {
      limits: Record<string, { remaining: number }>;
    }
  ).limits;

function chat(key: string, more: Record<string, unknown> = {}, init: RequestInit = {}, base = edge.url) {
  return fetch(`${base}/v1/chat/completions`, {
    method: 'POST',
    headers: { authorization: `Bearer ${key}` },
    body: JSON.stringify({ model: 'math', messages: [{ role: 'user', content: 'hi' }], ...more }),
    ...init,
  });
}

const errorIn = async (response: Response) =>
  ((await response.json()) as { error: { code: string; type: string; message: string } }).error;

describe('a managed key', () => {
  it('serves its tenant until it is revoked, which holds at once', async () => {
    const { key, id, ...made } = await createKey({ name: 'ci', models: ['math'] });
    expect(isKeyText(key)).toBe(true);
    expect(made).toMatchObject({ name: 'ci', tenant: 'acme', created_by: 'ada', revoked_at: null });
    const answer = await chat(key);
    expect(answer.status).toBe(200);
    expect([...answer.headers.keys()].filter((name) => name.startsWith('x-ratelimit'))).toEqual([]);

    expect((await chat(key, { messages: 5 })).status).toBe(400);

    const listed = await admin('GET', 'keys');
    expect(JSON.stringify(listed.body)).toContain(id);
    expect(JSON.stringify(listed.body) + JSON.stringify(await admin('GET', `keys/${id}`))).not.toContain(key);
    expect(log.join('\n')).not.toContain(key);

    const revoked = await admin('DELETE', `keys/${id}`);
    expect(revoked.body).toMatchObject({ id, revoked_at: expect.any(String), revoked_by: 'ada' });
    // Whatever it asks: what is wrong with that is no business of its.
    for (const more of [{}, { messages: 5 }]) {
      const refused = await chat(key, more);
      expect([refused.status, await errorIn(refused)]).toMatchObject([
        401,
        { code: 'invalid_api_key', type: 'authentication_error', message: 'this API key has been revoked' },
      ]);
    }
    // The first revocation stands.
    expect((await admin('DELETE', `keys/${id}`)).body).toEqual(revoked.body);
    expect((await admin('GET', `keys/${id}`)).body).toMatchObject({ limits: null });
    expect((await admin('DELETE', 'keys/0123456789ab')).status).toBe(404);
  });

  it('is refused where nobody has made it, and once it has expired', async () => {
    expect(await errorIn(await chat(newKeyText()))).toMatchObject({ message: 'this API key is not known here' });
    const { key } = await createKey({ expires_at: new Date(Date.now() + 1_000).toISOString() });
    await expect.poll(async () => (await chat(key)).status, { timeout: 5_000, interval: 100 }).toBe(401);
    expect(await errorIn(await chat(key))).toMatchObject({ message: 'this API key has expired' });
    expect((await admin('POST', 'keys', { tenant: 'acme', expires_at: '2020-01-01T00:00:00Z' })).status).toBe(400);
  });

  it('may use its models alone, whoever chose them', async () => {
    const { key } = await createKey({ models: ['math@stable', 'law-*'] });
    for (const [model, status] of Object.entries({ 'math@stable': 200, 'law-eu': 200, math: 403, nothing: 403 }))
      expect([model, (await chat(key, { model })).status]).toEqual([model, status]);
    expect(region.requests).toHaveLength(2);
    const mixed = await chat(key, { model: 'math@stable:1+chat:0.5' });
    expect([mixed.status, mixed.headers.get('x-signpost-rule'), (await errorIn(mixed)).code]).toEqual([
      403,
      'requested',
      'model_not_allowed',
    ]);
    const sum = { model: 'auto', messages: [{ role: 'user', content: '3 + 4 =' }] };
    expect((await errorIn(await chat(key, sum))).message).toContain('"math"');

    region.respond = answerStatus(
      200,
      JSON.stringify({ data: ['base', 'math', 'law-eu', 'chat'].map((id) => ({ id })) }),
    );
    const models = async (by: string) => {
      const response = await fetch(`${edge.url}/v1/models`, { headers: { authorization: `Bearer ${by}` } });
      return ((await response.json()) as { data: { id: string }[] }).data.map(({ id }) => id);
    };
    expect(await models(key)).toEqual(['auto', 'law-eu']);
    expect(await models(STATIC_KEY)).toEqual(['auto', 'base', 'math', 'law-eu', 'chat']);
  });

  it('may make so many requests a minute, and is told how many are left', async () => {
    const { key, id } = await createKey({ requests_per_minute: 2 });
    const explain = async () => {
      const response = await fetch(`${edge.url}/v1/route`, {
        method: 'POST',
        headers: { authorization: `Bearer ${key}` },
        body: JSON.stringify({ model: 'math', messages: [{ role: 'user', content: 'hi' }] }),
      });
      return (await response.json()) as { key: unknown };
    };
    for (const remaining of ['1', '0']) {
      const { headers } = await chat(key);
      expect(headers.get('x-ratelimit-limit-requests')).toBe('2');
      expect(headers.get('x-ratelimit-remaining-requests')).toBe(remaining);
      expect(headers.get('x-ratelimit-reset-requests')).toMatch(/^1m[01]s$/);
    }
    const refused = await chat(key);
    expect([refused.status, await errorIn(refused)]).toMatchObject([
      429,
      { code: 'rate_limit_exceeded', type: 'rate_limit_error' },
    ]);
    expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(50);
    expect(refused.headers.get('x-ratelimit-remaining-requests')).toBe('0');
    expect(region.requests).toHaveLength(2);
    const tokens = await fetch(`${edge.url}/tokenize`, {
      method: 'POST',
      headers: { authorization: `Bearer ${key}` },
      body: JSON.stringify({ model: 'math', prompt: 'hi' }),
    });
    expect(tokens.status).toBe(429);
    // Looking costs nothing.
    expect((await explain()).key).toMatchObject({
      id,
      allows: true,
      limits: { requests_per_minute: { limit: 2, remaining: 0 }, tokens_per_day: null, concurrency: null },
    });
  });

  it('may not make more of them by asking all at once', async () => {
    const { key } = await createKey({ requests_per_minute: 7 });
    const statuses = await Promise.all(Array.from({ length: 40 }, async () => (await chat(key)).status));
    expect(statuses.filter((status) => status === 200)).toHaveLength(7);
    expect(statuses.filter((status) => status === 429)).toHaveLength(33);
  });

  it('may have so many answers under way: one more once one has ended, or its app has left', async () => {
    const { key, id } = await createKey({ concurrency: 2 });
    const free = async () => (await limits(id)).concurrency?.remaining;
    const goOn = gate();
    region.respond = async (response) => {
      startEvents(response).write(event('one'));
      await goOn.opened;
      response.end(DONE);
    };
    const leaving = new AbortController();
    const first = await chat(key, { stream: true });
    await chat(key, { stream: true }, { signal: leaving.signal });
    const third = await chat(key);
    expect([third.status, third.headers.get('retry-after'), (await errorIn(third)).code]).toEqual([
      429,
      '1',
      'rate_limit_exceeded',
    ]);
    expect(await free()).toBe(0);
    leaving.abort();
    await expect.poll(free, { timeout: 5_000, interval: 20 }).toBe(1);
    goOn.open();
    await first.text();
    await expect.poll(free, { timeout: 5_000, interval: 20 }).toBe(2);
    // Whatever becomes of a request, its place is free again.
    region.respond = answerStatus(400, '{"error":{"code":"bad"}}');
    for (let i = 0; i < 3; i++) expect((await chat(key)).status).toBe(400);
    for (let i = 0; i < 3; i++) expect((await chat(key, { model: 'math:9' })).status).toBe(400);
    await expect.poll(free, { timeout: 5_000, interval: 20 }).toBe(2);
  });
});

describe('tokens a day', () => {
  const usage = (prompt: number, completion: number) => ({ prompt_tokens: prompt, completion_tokens: completion });
  const left = async (id: string) => (await limits(id)).tokens_per_day?.remaining;

  it('are charged as the region counts them', async () => {
    const { key, id } = await createKey({ tokens_per_day: 1_000 });
    region.respond = answerStatus(200, JSON.stringify({ choices: [], usage: usage(30, 12) }));
    const answer = await chat(key, { max_tokens: 100 });
    // Reserved until it has ended: the prompt, as far as its length tells, and as much as the answer may have.
    const reserved = 1_000 - Number(answer.headers.get('x-ratelimit-remaining-tokens'));
    expect(reserved).toBeGreaterThan(100);
    expect(reserved).toBeLessThan(130);
    expect(answer.headers.get('x-ratelimit-limit-tokens')).toBe('1000');
    expect(answer.headers.get('x-ratelimit-reset-tokens')).toMatch(/^(\d+h)?(\d+m)?\d+s$/);
    await expect.poll(() => left(id), { timeout: 5_000, interval: 20 }).toBe(1_000 - 42);

    region.respond = (response) =>
      void startEvents(response).end(
        `${event('one')}data: ${JSON.stringify({ choices: [], usage: usage(5, 3) })}\n\n${DONE}`,
      );
    await (await chat(key, { stream: true, max_tokens: 50 })).text();
    await expect.poll(() => left(id), { timeout: 5_000, interval: 20 }).toBe(1_000 - 42 - 8);
    // Where no region answers nothing is charged.
    region.respond = answerStatus(503);
    await chat(key, { max_tokens: 50 });
    await expect.poll(() => left(id), { timeout: 5_000, interval: 20 }).toBe(1_000 - 42 - 8);
  });

  it('are charged as far as the answer came where its app left', async () => {
    const { key, id } = await createKey({ tokens_per_day: 1_000 });
    const leaving = new AbortController();
    const token = (id: number) =>
      `data: ${JSON.stringify({ choices: [{ index: 0, delta: { content: 'x' }, token_ids: [id] }], ...(id === 1 ? { prompt_token_ids: [1, 2, 3, 4, 5] } : {}) })}\n\n`;
    region.respond = (response) => void startEvents(response).write(token(1) + token(2) + token(3));
    const answer = await chat(key, { stream: true, max_tokens: 500 }, { signal: leaving.signal });
    const reader = answer.body?.getReader() ?? expect.unreachable();
    let text = '';
    while ((text.match(/data:/g) ?? []).length < 3) text += new TextDecoder().decode((await reader.read()).value);
    expect(await left(id)).toBeLessThan(500);
    leaving.abort();
    await region.last.aborted;
    await expect.poll(() => left(id), { timeout: 5_000, interval: 20 }).toBe(1_000 - 5 - 3);
  });

  it('are not exceeded: what may come to more than is left is refused, and no answer goes beyond its reserve', async () => {
    const { key } = await createKey({ tokens_per_day: 3_000 });
    const refused = await chat(key, { max_tokens: 2_999 });
    expect([refused.status, refused.headers.get('x-should-retry'), await errorIn(refused)]).toMatchObject([
      429,
      'false',
      { code: 'insufficient_quota', message: expect.stringMatching(/of the 3000 .* 3000 are left.*max_tokens/) },
    ]);
    expect(refused.headers.has('retry-after')).toBe(false);
    expect(region.requests).toHaveLength(0);
    region.respond = () => {};
    const waiting = new AbortController();
    const first = chat(key, {}, { signal: waiting.signal }).catch(() => undefined);
    await expect.poll(() => region.requests.length, { timeout: 5_000, interval: 20 }).toBe(1);
    // Naming no number it may have this many.
    expect(JSON.parse(region.last.body).max_completion_tokens).toBe(2_048);
    // The other's reserve may come back.
    const second = await chat(key, { max_tokens: 1_000 });
    expect([second.status, second.headers.get('retry-after')]).toEqual([429, '1']);
    waiting.abort();
    await first;
  });
});

describe('the admin API', () => {
  it('is for administrators alone, who in turn can ask no models', async () => {
    const { key } = await createKey({});
    for (const other of [key, STATIC_KEY, 'whatever']) {
      const refused = await admin('GET', 'keys', undefined, other);
      expect([refused.status, refused.body]).toMatchObject([401, { error: { code: 'invalid_admin_key' } }]);
    }
    expect((await fetch(`${edge.url}/admin/keys`)).status).toBe(401);
    const asked = await chat(ADMIN_KEY);
    expect([asked.status, await errorIn(asked)]).toMatchObject([401, { code: 'invalid_api_key' }]);
    expect((await chat(STATIC_KEY)).status).toBe(200);
  });

  it('says what is wrong with a key that is asked for', async () => {
    for (const [body, param] of [
      [{}, 'tenant'],
      [{ tenant: 'a', models: ['ma*th'] }, 'models.0'],
      [{ tenant: 'a', requests_per_minute: 0 }, 'requests_per_minute'],
      [{ tenant: 'a', tokens: 5 }, undefined],
    ] as const) {
      const refused = await admin('POST', 'keys', body);
      expect([refused.status, refused.body]).toMatchObject([400, { error: param === undefined ? {} : { param } }]);
    }
    expect((await admin('PUT', 'keys')).headers.get('allow')).toBe('GET, POST');
    expect((await admin('GET', 'nothing')).status).toBe(404);
    expect((await admin('GET', 'keys/%20')).status).toBe(404);
  });

  it('is not there without its secret', async () => {
    const other = await startEdge({ regions: [{ name: 'near', url: region.url }], onLog: () => {} });
    try {
      const refused = await admin('GET', 'keys', undefined, ADMIN_KEY, other.url);
      expect([refused.status, refused.body]).toMatchObject([404, { error: { code: 'admin_off' } }]);
      // Everybody is served there, but a managed key means somebody.
      expect((await chat('whatever', {}, {}, other.url)).status).toBe(200);
      expect((await chat(newKeyText(), {}, {}, other.url)).status).toBe(401);
    } finally {
      await other.close();
    }
  });
});

it('keys and what they have used outlive the Worker', async () => {
  const folder = await mkdtemp(path.join(tmpdir(), 'signpost-keys-'));
  const start = () => startEdge({ ...options(), folder });
  try {
    const before = await start();
    const { key, id } = await createKey({ tokens_per_day: 1_000, requests_per_minute: 2, concurrency: 1 }, before.url);
    region.respond = answerStatus(
      200,
      JSON.stringify({ choices: [], usage: { prompt_tokens: 1, completion_tokens: 2 } }),
    );
    await chat(key, { max_tokens: 10 }, {}, before.url);
    const used = {
      tokens_per_day: { remaining: 997 },
      requests_per_minute: { remaining: 1 },
      concurrency: { remaining: 1 },
    };
    await expect.poll(() => limits(id, before.url), { timeout: 5_000, interval: 20 }).toMatchObject(used);
    // One that runs, and whose end nobody will tell.
    region.respond = () => {};
    const lost = chat(key, { max_tokens: 100 }, {}, before.url).catch(() => undefined);
    await expect.poll(() => region.requests.length, { timeout: 5_000, interval: 20 }).toBe(2);
    await before.close();
    await lost;

    const after = await start();
    try {
      const standing = await limits(id, after.url);
      expect(standing).toMatchObject({ requests_per_minute: { remaining: 0 }, concurrency: { remaining: 0 } });
      expect(standing.tokens_per_day?.remaining).toBeLessThan(997 - 100);
      expect((await chat(key, {}, {}, after.url)).status).toBe(429);
    } finally {
      await after.close();
    }
  } finally {
    await rm(folder, { recursive: true });
  }
});
