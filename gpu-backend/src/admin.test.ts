/**
 * A real region as its operator sees it: where experts are, and what moves them; and as its edge hears of it.
 */
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  type ErrorBody,
  type ExpertCard,
  HEARTBEAT_AUDIENCE,
  HEARTBEAT_PATH,
  type Heartbeat,
  heartbeatSchema,
  SeenTokens,
  signingKey,
  signRequest,
  verifyRequest,
} from '@signpost/contracts';
import { openCheckpoint } from '@signpost/engine';
import { pack, publish } from '@signpost/packer';
import { openStore } from '@signpost/store';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { type BackendHandle, startBackend } from './index.ts';

const DEMO = join(import.meta.dirname, '../../models/demo');
const SECRET = 's'.repeat(32);
const ADMIN = 'operator';

let dir: string;
let backend: BackendHandle;
let edge: Server;
let edgeUrl: string;
const beats: Heartbeat[] = [];
const logged: string[] = [];

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'signpost-admin-'));
  const store = join(dir, 'store');
  const base = await openCheckpoint(join(DEMO, 'base'));
  for (const name of ['chat', 'math', 'code']) {
    const out = join(dir, `${name}.delta.safetensors`);
    await pack(base, await openCheckpoint(join(DEMO, 'experts', name)), { name, out, scale: 'row', planes: 1 });
    await publish(openStore(store), out);
  }
  const seen = new SeenTokens();
  edge = createServer(async (request, response) => {
    let body = '';
    for await (const part of request) body += part;
    const { method = '', url: path = '', headers } = request;
    try {
      await verifyRequest(
        [signingKey(SECRET)],
        headers.authorization ?? null,
        { region: HEARTBEAT_AUDIENCE, method, path, body },
        seen,
      );
      expect(path).toBe(HEARTBEAT_PATH);
      beats.push(heartbeatSchema.parse(JSON.parse(body)));
    } catch (error) {
      logged.push(`edge: ${error}`);
      response.statusCode = 401;
    }
    response.end();
  }).listen(0, '127.0.0.1');
  await once(edge, 'listening');
  edgeUrl = `http://127.0.0.1:${(edge.address() as AddressInfo).port}`;
  backend = await startBackend({
    base: join(DEMO, 'base'),
    store,
    region: 'eu',
    port: 0,
    slots: 2,
    secret: SECRET,
    adminKey: ADMIN,
    diskCache: join(dir, 'disk'),
    edge: [`${edgeUrl}/`],
    onLog: (line) => logged.push(line),
  });
});
afterAll(async () => {
  await backend?.close();
  edge?.closeAllConnections();
  edge?.close();
  await rm(dir, { recursive: true, force: true });
});

async function admin<T>(path: string, body?: object, key = ADMIN): Promise<{ status: number; body: T & ErrorBody }> {
  const response = await fetch(`${backend.url}/admin${path}`, {
    method: body === undefined ? 'GET' : 'POST',
    headers: { authorization: `Bearer ${key}` },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  return { status: response.status, body: (await response.json()) as T & ErrorBody };
}

/** A request as the edge signs it. */
async function signed(method: 'GET' | 'POST', path: string, body = '', headers: Record<string, string> = {}) {
  const request = { region: 'eu', method, path, body };
  const token = await signRequest(signingKey(SECRET), request, { tenant: 'acme' });
  return fetch(`${backend.url}${path}`, {
    method,
    headers: { ...headers, authorization: `Bearer ${token}` },
    ...(method === 'GET' ? {} : { body }),
  });
}

const ask = (model: string, headers: Record<string, string> = {}) =>
  signed('POST', '/v1/completions', JSON.stringify({ model, prompt: 'Hi', max_tokens: 2, temperature: 0 }), headers);

async function card(name: string): Promise<ExpertCard> {
  const { body } = await admin<{ data: ExpertCard[] }>('/experts');
  const found = body.data.find(({ id }) => id === name);
  if (found === undefined) throw new Error(`no ${name} in ${JSON.stringify(body)}`);
  return found;
}

const evictAll = async () => {
  for (const model of ['chat', 'math', 'code']) {
    await admin('/experts/unpin', { model });
    await admin('/experts/evict', { model });
  }
};
beforeEach(evictAll);

describe('the admin API', () => {
  it('is opened by its own key alone, and off without one', async () => {
    expect((await admin('/experts', undefined, 'wrong')).body.error).toMatchObject({ code: 'invalid_admin_key' });
    expect((await admin('/experts', undefined, SECRET)).status).toBe(401);
    expect((await signed('GET', '/admin/experts')).status).toBe(401);
    // Nor does it open anything else.
    const asOperator = { headers: { authorization: `Bearer ${ADMIN}` } };
    expect((await fetch(`${backend.url}/v1/experts`, asOperator)).status).toBe(401);
    const open = await startBackend({
      base: join(DEMO, 'base'),
      store: join(dir, 'store'),
      region: 'eu',
      port: 0,
      logLevel: 'silent',
    });
    const refused = await fetch(`${open.url}/admin/drain`, { method: 'POST' });
    expect([refused.status, ((await refused.json()) as ErrorBody).error.code]).toEqual([403, 'admin_disabled']);
    await open.close();
  });

  it('loads an expert, shows where it is and how it is used, and evicts it', async () => {
    expect(await card('math')).toMatchObject({ tier: 'store', tiers: ['store'], slot: null, loading: false });
    const loaded = await admin<{ loaded: { digest: string; ms: number }[] }>('/experts/load', { model: 'math' });
    expect(loaded.status).toBe(200);
    const inSlot = await card('math');
    expect(inSlot).toMatchObject({ models: ['math'], digest: loaded.body.loaded[0]?.digest, users: 0, pinned_by: [] });
    expect(inSlot.tiers.slice(0, 2)).toEqual(['device', 'host']);
    const before = inSlot.hits;
    expect((await ask('math')).status).toBe(200);
    const used = await card('math');
    expect(used).toMatchObject({ hits: before + 1, requests: inSlot.requests + 1, slot: inSlot.slot });
    expect(Date.now() - Date.parse(used.last_use ?? '')).toBeLessThan(60_000);
    const listed = (await (await signed('GET', '/v1/experts')).json()) as { data: ExpertCard[] };
    expect(listed.data[0]).toMatchObject({ id: 'math', tier: 'device' });
    expect(listed.data.map(({ id }) => id).sort()).toEqual(['chat', 'code', 'math']);
    await expect.poll(async () => (await card('math')).tiers).toEqual(['device', 'host', 'disk', 'store']);
    const evicted = await admin<{ evicted: object[] }>('/experts/evict', { model: used.digest });
    expect(evicted.body.evicted).toEqual([{ digest: used.digest, from: ['device', 'host', 'disk'] }]);
    expect(await card('math')).toMatchObject({ tier: 'store', slot: null });
    expect((await ask('math')).status).toBe(200);
  });

  it('keeps what is pinned in its slot, whatever else is asked for', async () => {
    expect((await admin('/experts/pin', { model: 'math' })).body).toEqual({ model: 'math', pins: ['math'] });
    await expect.poll(() => card('math')).toMatchObject({ tier: 'device', loading: false });
    for (const model of ['chat', 'code', 'chat', 'code']) expect((await ask(model)).status).toBe(200);
    expect(await card('math')).toMatchObject({ tier: 'device', pinned_by: ['math'] });
    expect((await admin('/experts/pin', { model: 'chat' })).body.error).toMatchObject({ code: 'too_many_pins' });
    expect((await admin('/experts/evict', { model: 'math' })).body.error).toMatchObject({
      code: 'pinned',
      message: '"math" is pinned by math; unpin it first',
    });
    const mixed = (await (await ask('chat+code')).json()) as ErrorBody;
    expect(mixed.error.message).toMatch(/2 slots, of which 1 is kept for pinned experts/);
    expect((await admin('/experts/unpin', { model: 'math' })).body).toMatchObject({ pins: [] });
    expect((await admin('/experts/unpin', { model: 'math' })).status).toBe(404);
    expect((await ask('chat+code')).status).toBe(200);
  });

  it.each([
    ['/experts/pin', { model: 'nobody' }, 404, 'model_not_found'],
    ['/experts/pin', {}, 400, 'invalid_value'],
    ['/experts/load', { model: 'math', timeout_ms: 0 }, 400, 'invalid_value'],
    ['/experts/load', { model: 'math+chat' }, 404, 'model_not_found'],
    ['/experts/evict', { model: 'nobody' }, 404, 'model_not_found'],
    ['/experts/dance', { model: 'math' }, 404, 'unknown_path'],
  ])('(%s %j) says what was wrong', async (path, body, expected, code) => {
    const refused = await admin(path, body);
    expect([refused.status, refused.body.error.code]).toEqual([expected, code]);
  });

  it('drains a region and lets it take requests again', async () => {
    expect((await admin('/drain', {})).body).toEqual({ draining: true, running: 0, waiting: 0 });
    expect((await ask('base')).status).toBe(503);
    expect((await fetch(`${backend.url}/health/ready`)).status).toBe(503);
    expect((await fetch(`${backend.url}/health/live`)).status).toBe(200);
    await expect.poll(() => beats.at(-1)?.draining).toBe(true);
    expect((await admin('/resume', {})).body).toEqual({ draining: false });
    expect((await ask('base')).status).toBe(200);
    await expect.poll(() => beats.at(-1)?.draining).toBe(false);
    const actions = logged.flatMap((line) => /"action":"(drain|resume)"/.exec(line)?.[1] ?? []);
    expect(actions).toEqual(['drain', 'resume']);
    expect(logged.join('\n')).not.toContain(ADMIN);
  });
});

describe('an expert that the edge announces', () => {
  it('is in its slot before it is asked for', async () => {
    expect((await ask('base', { 'x-signpost-prefetch': 'code, nobody' })).status).toBe(200);
    await expect.poll(() => card('code')).toMatchObject({ tier: 'device', loading: false });
    const { hits } = await card('code');
    expect((await ask('code')).status).toBe(200);
    expect((await card('code')).hits).toBe(hits + 1);
  });
});

describe('heartbeats', () => {
  it('tell each change at once, are signed, and come every two seconds besides', async () => {
    const { digest } = await card('chat');
    const from = beats.length;
    expect((await ask('chat')).status).toBe(200);
    await expect.poll(() => beats.at(-1)?.experts.device, { timeout: 1_000 }).toContain(digest);
    expect(beats.at(-1)?.experts.host).toContain(digest);
    expect(beats.at(-1)?.pageInBytesPerSecond.store).toBeGreaterThan(0);
    expect(beats.at(-1)?.prefillTokensPerSecond).toBeGreaterThan(0);
    expect(new Set(beats.map(({ replica }) => replica)).size).toBe(1);
    const quiet = beats.length;
    expect(quiet - from).toBeLessThan(6);
    await expect.poll(() => beats.length, { timeout: 5_000 }).toBeGreaterThanOrEqual(quiet + 2);
    expect(logged.filter((line) => line.startsWith('edge:'))).toEqual([]);
  });
});
