/**
 * What an operator sees and tries, in real workerd: the fleet, decisions and whether they were right, rules' hits, and requests that nobody has sent.
 */
import { afterAll, beforeAll, expect, it } from 'vitest';
import { catalogueObject, digestOf } from './catalogues.ts';
import { type EdgeHandle, startEdge } from './edge.ts';
import { heartbeatOf, tellEdge } from './heartbeats.ts';
import { answerWhole, Upstream } from './upstream.ts';

const ADMIN_KEY = 'an-administrators-key';
const RULES = `
version: 1
rules:
  - { name: germans, when: { country: DE, header: { x-plan: gold } }, then: { model: math } }
  - { name: rest, then: { model: base } }
`;

let region: Upstream;
let edge: EdgeHandle;
beforeAll(async () => {
  region = await Upstream.start();
  region.respond = answerWhole('hello');
  edge = await startEdge({
    regions: [
      { name: 'eu', url: region.url, continent: 'EU' },
      { name: 'us', url: region.url, role: 'overflow' },
    ],
    keys: { 'sk-acme': 'acme', 'sk-beta': 'beta' },
    adminKeys: { [ADMIN_KEY]: 'ada' },
    artifacts: catalogueObject({ math: { a: 1 } }, { router: { labels: { numbers: 'math@stable', talk: 'base' } } }),
    routing: RULES,
    onLog: () => {},
  });
});
afterAll(async () => {
  await edge?.close();
  await region?.close();
});

async function admin(method: string, path: string, body?: unknown, key = ADMIN_KEY) {
  const response = await fetch(`${edge.url}/admin/${path}`, {
    method,
    headers: { authorization: `Bearer ${key}` },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  return { status: response.status, body: (await response.json()) as { data: Record<string, unknown>[] } };
}

const CHAT = { model: 'auto', messages: [{ role: 'user', content: 'hi' }] };

/** @returns the answer's request id */
async function ask(key: string, id?: string): Promise<string> {
  const response = await fetch(`${edge.url}/v1/chat/completions`, {
    method: 'POST',
    headers: { authorization: `Bearer ${key}`, ...(id === undefined ? {} : { 'x-request-id': id }) },
    body: JSON.stringify(CHAT),
  });
  expect([response.status, await response.text()]).toEqual([200, expect.stringContaining('hello')]);
  return response.headers.get('x-request-id') ?? '';
}

it.each([
  ['GET', 'fleet'],
  ['GET', 'decisions'],
  ['POST', 'feedback'],
  ['GET', 'rules/hits'],
  ['POST', 'route'],
])('%s /admin/%s is for administrators alone', async (method, path) => {
  expect((await admin(method, path, method === 'POST' ? {} : undefined, 'sk-acme')).status).toBe(401);
});

it('sees regions with what their containers last said, and the catalogue', async () => {
  const experts = { device: [digestOf('a')], host: [], loading: [] } as never;
  await tellEdge(edge.url, heartbeatOf('eu', { running: 3, queuedTokens: 70, experts }));
  const replicas = async () => {
    const { regions } = (await admin('GET', 'fleet')).body as unknown as { regions: { replicas: unknown[] }[] };
    return regions[0]?.replicas ?? [];
  };
  await expect.poll(replicas).toHaveLength(1);
  expect((await admin('GET', 'fleet')).body).toMatchObject({
    object: 'fleet',
    regions: [
      {
        name: 'eu',
        kind: 'http',
        role: 'regular',
        continent: 'EU',
        asleep: false,
        breaker: 'closed',
        replicas: [{ running: 3, queued_tokens: 70, kv_blocks: 10, slots_free: 2, experts, draining: false }],
      },
      { name: 'us', role: 'overflow', replicas: [] },
    ],
    catalogue: {
      bases: [{ name: 'demo' }],
      experts: [
        {
          name: 'math',
          labels: ['numbers'],
          channels: { stable: [{ digest: digestOf('a'), weight: 1 }] },
          versions: [{ digest: digestOf('a'), bytes: 1_000, quality: null }],
        },
      ],
    },
  });
});

it('sees decisions, the newest first and page by page, and says of any tenant’s whether it was right', async () => {
  const [first, second] = [await ask('sk-acme', 'same-id'), await ask('sk-beta', 'same-id')];
  expect([first, second]).toEqual(['same-id', 'same-id']);
  const tenants = async () => (await admin('GET', 'decisions')).body.data.map((one) => one['signpost.tenant']);
  await expect.poll(tenants).toEqual(['beta', 'acme']);
  const page = (await admin('GET', 'decisions?limit=1')).body as unknown as { data: { id: string }[]; next: string };
  expect(page).toMatchObject({ data: [{ id: 'same-id', 'signpost.tenant': 'beta', 'signpost.rule': 'rest' }] });
  const next = await admin('GET', `decisions?limit=1&before=${page.next}`);
  expect(next.body).toMatchObject({ data: [{ 'signpost.tenant': 'acme' }], next: null });
  expect((await admin('GET', 'decisions?limit=0')).status).toBe(400);

  const wrong = { decision_id: 'same-id', verdict: 'wrong', expected: 'math' };
  expect(await admin('POST', 'feedback?tenant=acme', wrong)).toMatchObject({
    status: 200,
    body: { decision_id: 'same-id', tenant: 'acme', verdict: 'wrong', expected: 'math', rule: 'rest' },
  });
  const own = await fetch(`${edge.url}/v1/feedback`, { headers: { authorization: 'Bearer sk-acme' } });
  expect(await own.json()).toMatchObject({ data: [{ decision_id: 'same-id', verdict: 'wrong' }] });
  expect((await admin('POST', 'feedback?tenant=nobody', wrong)).status).toBe(404);
});

it('sees how often each rule has decided', async () => {
  const before = (await admin('GET', 'rules/hits')).body.data.find(({ rule }) => rule === 'rest')?.requests ?? 0;
  await ask('sk-acme');
  const hits = async () => (await admin('GET', 'rules/hits')).body.data.find(({ rule }) => rule === 'rest')?.requests;
  await expect.poll(hits, { timeout: 10_000 }).toBe(Number(before) + 1);
});

it('tries a request from anybody, anywhere, by the rules in force', async () => {
  const asked = region.requests.length;
  const trial = { request: CHAT, tenant: 'acme', headers: { 'X-Plan': 'gold' }, place: { country: 'DE' } };
  expect(await admin('POST', 'route', trial)).toMatchObject({
    status: 200,
    body: {
      object: 'route',
      rule: 'germans',
      model: 'math',
      key: null,
      rules: { source: 'kv' },
      request: { tenant: 'acme', country: 'DE' },
      plan: [{ region: 'eu' }, { region: 'us', held_back: true }],
    },
  });
  expect((await admin('POST', 'route', { ...trial, place: { country: 'FR' } })).body).toMatchObject({ rule: 'rest' });
  expect(region.requests).toHaveLength(asked);
});

it('tries a request by rules that are not in force, and is told what is wrong with them', async () => {
  const rules = RULES.replace('germans', 'gold').replace('country: DE, ', '');
  const trial = { request: CHAT, headers: { 'x-plan': 'gold' }, rules };
  expect((await admin('POST', 'route', trial)).body).toMatchObject({
    rule: 'gold',
    rules: { source: 'given', number: null },
  });
  expect(await admin('POST', 'route', { ...trial, rules: rules.replace('model: base', 'modle: base') })).toMatchObject({
    status: 400,
    body: { error: { message: expect.stringContaining('rules[1].then') } },
  });
  expect(await admin('POST', 'route', { request: { model: 'auto' } })).toMatchObject({
    status: 400,
    body: { error: { message: expect.stringContaining('messages') } },
  });
});
