/**
 * Whether what the edge answers is what its OpenAPI document says: real answers of a real region, and errors of each kind.
 */
import { createHash } from 'node:crypto';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { prepareDemoStore, type System, startSystem } from '@signpost/demo';
import { type EdgeHandle, startEdge } from '@signpost/edge';
import { Ajv2020, type ValidateFunction } from 'ajv/dist/2020.js';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

type Schema = Record<string, unknown>;

interface Operation {
  readonly security: readonly Schema[];
  readonly requestBody?: { readonly content: Record<string, { readonly schema: Schema }> };
  readonly responses: Readonly<
    Record<
      string,
      { readonly headers: Record<string, unknown>; readonly content: Record<string, { readonly schema: Schema }> }
    >
  >;
}

interface Document {
  readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>;
  readonly components: Schema;
}

/** HTTP's own, which no API says anything of. */
const HTTP_HEADERS = new Set([
  'cache-control',
  'connection',
  'content-encoding',
  'content-length',
  'content-type',
  'date',
  'keep-alive',
  'transfer-encoding',
]);
const KEY = 'sk-openapi';
const ADMIN_KEY = 'an-administrators-key';
const METRICS_KEY = 'mk-openapi';
/** Before the repository's own rules. */
const CACHED =
  '  - { name: kept, when: { header: { x-kept: true } }, then: { model: math, cache: { seconds: 60 } } }\n';
const RULES = `
version: 1
rules:
  - { name: closed, when: { header: { x-team: red } }, then: { refuse: red is out } }
  - { name: rest, then: { model: chat } }
`;

let state: string;
let system: System;
let strict: EdgeHandle;
/** Where nobody can say whether a key is good. */
let lost: EdgeHandle;
let document: Document;
let ajv: Ajv2020;
/** Full, until it is told otherwise. */
let status = 429;
const region = createServer((request, response) => {
  request.resume().on('end', () => {
    const error = { message: 'm', type: 'rate_limit_error', param: null, code: 'region_full' };
    response
      .writeHead(status, { 'content-type': 'application/json', 'retry-after': '1' })
      .end(JSON.stringify({ error }));
  });
});

beforeAll(async () => {
  state = await mkdtemp(join(tmpdir(), 'signpost-openapi-'));
  const store = await prepareDemoStore(state);
  const rules = await readFile(new URL('../../routing.yaml', import.meta.url), 'utf8');
  system = await startSystem({
    regions: [{ name: 'eu', store: store.url }],
    edgePort: 0,
    routing: rules.replace(/^rules:\n/m, (begin) => begin + CACHED),
    onLog: () => undefined,
  });
  await new Promise<void>((resolve) => region.listen(0, '127.0.0.1', resolve));
  const url = `http://127.0.0.1:${(region.address() as AddressInfo).port}`;
  const options = {
    regions: [{ name: 'full', url }],
    keys: { [KEY]: 'acme' },
    adminKeys: { [ADMIN_KEY]: 'ada' },
    variables: { METRICS_KEY_HASHES: JSON.stringify([createHash('sha256').update(METRICS_KEY).digest('hex')]) },
    onLog: () => undefined,
  };
  [strict, lost] = await Promise.all([
    startEdge({ ...options, routing: RULES }),
    // The region refuses the objects' calls, too.
    startEdge({ ...options, objectsBehind: url }),
  ]);
  document = (await (await fetch(`${system.url}/openapi.json`)).json()) as Document;
  ajv = new Ajv2020({ strict: false, validateFormats: false, allErrors: true });
  ajv.addSchema({ $id: 'edge', ...closed(document) });
});
afterAll(async () => {
  await Promise.all([system?.close(), strict?.close(), lost?.close()]);
  region.close();
  await rm(state, { recursive: true, force: true });
});

/** The document with every object of named fields held to those: what an answer has beside them would be documented nowhere. */
function closed<T>(value: T): T {
  if (Array.isArray(value)) return value.map(closed) as T;
  if (typeof value !== 'object' || value === null) return value;
  const inner = Object.fromEntries(Object.entries(value).map(([name, one]) => [name, closed(one)]));
  const isOpen = typeof inner.properties === 'object' && inner.type === 'object' && !('additionalProperties' in inner);
  return { ...inner, ...(isOpen ? { additionalProperties: false } : {}) } as T;
}

function validator(pointer: readonly string[]): ValidateFunction {
  const path = pointer.map((part) => encodeURIComponent(part.replaceAll('~', '~0').replaceAll('/', '~1'))).join('/');
  return ajv.getSchema(`edge#/${path}`) ?? expect.unreachable(`the document has nothing at ${pointer.join(' ')}`);
}

function expectValid(validate: ValidateFunction, value: unknown): void {
  validate(value);
  expect(validate.errors ?? [], JSON.stringify(value)).toEqual([]);
}

/** Holds an answer to what is documented of its operation, status and type. */
async function check(method: string, path: string, answer: Response, at = path): Promise<string> {
  const text = await answer.text();
  const operation = document.paths[at]?.[method] ?? expect.unreachable(`${method} ${at} is not documented`);
  const response =
    operation.responses[answer.status] ?? expect.unreachable(`${method} ${at} ${answer.status}: ${text}`);
  const own = [...answer.headers.keys()].filter((name) => !HTTP_HEADERS.has(name));
  for (const name of ['x-request-id', 'server-timing', ...own]) {
    expect(answer.headers.get(name), name).toBeTruthy();
    expect(Object.keys(response.headers), `${method} ${at}`).toContain(name);
  }
  const type = answer.headers.get('content-type')?.split(';')[0] ?? '';
  const { schema } = response.content[type] ?? expect.unreachable(`${method} ${at} ${answer.status} answers ${type}`);
  const pointer = ['paths', at, method, 'responses', String(answer.status), 'content', type, 'schema'];
  if (type === 'application/json') expectValid(validator(pointer), JSON.parse(text));
  if (type !== 'text/event-stream') return text;
  expect(schema.contentSchema).toBeTruthy();
  const events = text
    .trimEnd()
    .split('\n\n')
    .filter((event) => !event.startsWith(':'));
  expect(events.at(-1)).toBe('data: [DONE]');
  for (const event of events.slice(0, -1))
    expectValid(validator([...pointer, 'contentSchema']), JSON.parse(event.slice('data: '.length)));
  return text;
}

/** Sends a body, which is as documented, too. */
async function post(
  path: string,
  body: Schema,
  headers: Record<string, string> = {},
): Promise<{ answer: Response; text: string }> {
  expectValid(validator(['paths', path, 'post', 'requestBody', 'content', 'application/json', 'schema']), body);
  const answer = await fetch(system.url + path, { method: 'POST', body: JSON.stringify(body), headers });
  const kept = answer.clone();
  return { answer: kept, text: await check('post', path, answer) };
}

const messages = [{ role: 'user', content: 'Tom has 12 apples and gives 5 to Anna. How many has he left?' }];

describe('answers are as documented', () => {
  it.each([
    ['plain', {}],
    [
      'of several choices with log-probabilities and token ids',
      { n: 2, logprobs: true, top_logprobs: 2, return_token_ids: true, temperature: 1 },
    ],
    ['to a schema', { response_format: { type: 'json_object' } }],
  ])('chats, %s, whole and streamed', async (_, more) => {
    for (const stream of [false, true]) {
      const { answer } = await post('/v1/chat/completions', {
        model: 'auto',
        messages,
        max_tokens: 8,
        stream,
        ...more,
      });
      expect(answer.status).toBe(200);
    }
    const options = { stream: true, stream_options: { include_usage: true } };
    const { text } = await post('/v1/chat/completions', {
      model: 'math',
      messages,
      max_tokens: 4,
      ...options,
      ...more,
    });
    expect(text).toContain('"completion_tokens"');
  });

  it('chats that are given again, whole and streamed', async () => {
    const body = { model: 'auto', messages, max_tokens: 4, temperature: 0 };
    const cached = async (stream: boolean) =>
      (await post('/v1/chat/completions', { ...body, stream }, { 'x-kept': '1' })).answer;
    // Kept beside the request; and not before the edge has heard of the catalogue.
    await expect
      .poll(async () => (await cached(false)).headers.get('x-signpost-cache'), { timeout: 20_000, interval: 100 })
      .toBe('hit');
    for (const stream of [false, true]) expect((await cached(stream)).headers.get('age')).toMatch(/^\d+$/);
  });

  it('completions, whole and streamed, with log-probabilities and echo', async () => {
    for (const more of [
      {},
      { stream: true },
      { stream: true, stream_options: { include_usage: true } },
      { logprobs: 2, echo: true },
      { prompt: ['a', 'b'] },
      { prompt: [1, 2, 3], return_token_ids: true },
    ]) {
      const { answer, text } = await post('/v1/completions', {
        model: 'base',
        prompt: 'Once upon a time',
        max_tokens: 4,
        ...more,
      });
      expect(answer.status, text).toBe(200);
    }
  });

  it('tokens and their text', async () => {
    const { text } = await post('/tokenize', { model: 'auto', prompt: '3 + 4 =', return_token_strs: true });
    const { tokens } = JSON.parse(text) as { tokens: number[] };
    expect(tokens.length).toBeGreaterThan(2);
    const back = await post('/detokenize', { model: 'base', tokens });
    expect(JSON.parse(back.text)).toEqual({ prompt: expect.stringContaining('3 + 4 =') });
    expect((await post('/tokenize', { model: 'math', messages })).answer.status).toBe(200);
  });

  it('explanations, models, health, the document itself, feedback', async () => {
    await post('/v1/route', { model: 'auto', messages });
    await post('/v1/route', { model: 'base', prompt: 'hi' });
    for (const path of ['/v1/models', '/health', '/openapi.json', '/v1/feedback']) {
      const answer = await fetch(system.url + path);
      expect(answer.status).toBe(200);
      await check('get', path, answer);
    }
    const { answer } = await post('/v1/chat/completions', { model: 'auto', messages, max_tokens: 2 });
    const said = {
      decision_id: answer.headers.get('x-request-id') ?? '',
      verdict: 'wrong',
      expected: 'math',
      prompt: 'x',
    };
    expect((await post('/v1/feedback', said)).answer.status).toBe(200);
    await check('get', '/v1/feedback', await fetch(`${system.url}/v1/feedback?limit=1`));
  });

  it('metrics', async () => {
    const answer = await fetch(`${strict.url}/metrics`, { headers: { authorization: `Bearer ${METRICS_KEY}` } });
    expect(answer.status).toBe(200);
    expect(await check('get', '/metrics', answer)).toContain('# TYPE signpost_requests_total counter');
  });
});

describe('errors are as documented', () => {
  const key = { authorization: `Bearer ${KEY}` };
  const send = (path: string, body: string, headers: Record<string, string> = key) =>
    fetch(strict.url + path, { method: 'POST', body, headers });
  const hi = JSON.stringify({ model: 'auto', messages: [{ role: 'user', content: 'hi' }] });

  it('of every endpoint: no key, no body, too much, another method', async () => {
    for (const [path, methods] of Object.entries(document.paths)) {
      for (const [method, operation] of Object.entries(methods)) {
        const isPost = method === 'post';
        const init = { method: method.toUpperCase(), ...(isPost ? { body: '{}' } : {}) };
        await check(method, path, await fetch(strict.url + path, init));
        if (!isPost || operation.requestBody === undefined) continue;
        for (const body of ['{', '{}', ' '.repeat(5 * 1024 * 1024)]) await check(method, path, await send(path, body));
      }
      const other = await fetch(strict.url + path, { method: 'PATCH' });
      expect(other.status).toBe(405);
      expect(other.headers.get('allow')?.toLowerCase().split(', ').sort()).toEqual(Object.keys(methods).sort());
      expectValid(validator(['components', 'schemas', 'Error']), await other.json());
    }
    const nowhere = await fetch(`${strict.url}/v1/nowhere`);
    expect(nowhere.status).toBe(404);
    // No key for them is set there.
    await check('get', '/metrics', await fetch(`${system.url}/metrics`));
    expectValid(validator(['components', 'schemas', 'Error']), await nowhere.json());
  });

  /** A managed key. */
  const created = async (limits: Record<string, unknown>) => {
    const answer = await fetch(`${strict.url}/admin/keys`, {
      method: 'POST',
      headers: { authorization: `Bearer ${ADMIN_KEY}` },
      body: JSON.stringify({ tenant: 'acme', ...limits }),
    });
    const { key } = (await answer.json()) as { key: string };
    return { authorization: `Bearer ${key}` };
  };

  it('of a managed key: a model that it may not use, and its limits', async () => {
    const limited = await created({ models: ['math'], requests_per_minute: 1, tokens_per_day: 3_000 });
    const forbidden = await send('/v1/chat/completions', hi, limited);
    expect([forbidden.status, forbidden.headers.get('x-ratelimit-remaining-requests')]).toEqual([403, '0']);
    await check('post', '/v1/chat/completions', forbidden);
    const often = await send('/v1/completions', JSON.stringify({ model: 'math', prompt: 'hi' }), limited);
    expect([often.status, Number(often.headers.get('retry-after'))]).toEqual([429, expect.any(Number)]);
    expect(Number(often.headers.get('retry-after'))).toBeGreaterThan(0);
    expect(often.headers.get('x-ratelimit-limit-tokens')).toBe('3000');
    await check('post', '/v1/completions', often);
    const long = JSON.stringify({ ...JSON.parse(hi), max_tokens: 3_000 });
    const much = await send('/v1/chat/completions', long, await created({ tokens_per_day: 3_000 }));
    expect([much.status, much.headers.get('x-should-retry')]).toEqual([429, 'false']);
    await check('post', '/v1/chat/completions', much);
  });

  it('of a managed key that nobody can look up, whatever it asks', async () => {
    const headers = await created({});
    for (const [path, methods] of Object.entries(document.paths)) {
      for (const [method, { security }] of Object.entries(methods)) {
        if (!security.some((one) => 'apiKey' in one)) continue;
        const body = method === 'post' ? { body: path === '/detokenize' ? '{"model":"base","tokens":[1]}' : hi } : {};
        const answer = await fetch(lost.url + path, { method: method.toUpperCase(), headers, ...body });
        expect([path, answer.status, answer.headers.get('retry-after')]).toEqual([path, 503, '1']);
        expect(await check(method, path, answer)).toContain('key_unreachable');
      }
    }
  });

  it('refused by a rule, full, unavailable, and unknown', async () => {
    for (const [expected, answer] of [
      [403, () => send('/v1/chat/completions', hi, { ...key, 'x-team': 'red' })],
      [429, () => send('/v1/chat/completions', hi)],
      [404, () => send('/v1/feedback', JSON.stringify({ decision_id: 'nobody', verdict: 'right' }))],
    ] as const) {
      const got = await answer();
      expect(got.status).toBe(expected);
      await check('post', new URL(got.url).pathname, got);
    }
    status = 503;
    const gone = await send('/v1/chat/completions', hi);
    expect(gone.status).toBe(503);
    await check('post', '/v1/chat/completions', gone);
    const list = await fetch(`${strict.url}/v1/feedback?limit=many`, { headers: key });
    expect(list.status).toBe(400);
    await check('get', '/v1/feedback', list);
  });
});
