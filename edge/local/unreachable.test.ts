/**
 * Without Durable Objects, whether they fail or never answer, requests are answered all the same: by geography, and without what is kept there.
 */
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { KeyView } from '../src/keys/record.ts';
import { type EdgeHandle, startEdge } from './edge.ts';
import { heartbeatOf, tellEdge } from './heartbeats.ts';
import { answerStatus, answerWhole, DONE, event, type Respond, startEvents, Upstream } from './upstream.ts';

const ADMIN_KEY = 'an-administrators-key';
/** Asks no object. */
const STATIC_KEY = 'sk-static';
/** Of an app: a key's object is given up after 3 s, all others are waited for by nobody. */
const PATIENCE_MS = 2_500;
const KEY_PATIENCE_MS = 10_000;

const THERE = answerStatus(200);
const FAILING = answerStatus(500);
const SILENT: Respond = () => undefined;

const answerEvents: Respond = (response) => void startEvents(response).end(event('hello') + DONE);

describe.each([
  { objects: 'that fail', gone: FAILING },
  { objects: 'that never answer', gone: SILENT },
])('objects $objects', ({ gone }) => {
  let near: Upstream;
  let far: Upstream;
  /** Before the objects. */
  let gate: Upstream;
  let edge: EdgeHandle;
  const log: string[] = [];

  beforeAll(async () => {
    [near, far, gate] = await Promise.all([Upstream.start(), Upstream.start(), Upstream.start()]);
    gate.respond = gone;
    edge = await startEdge({
      regions: [
        { name: 'far', url: far.url, latitude: -33.9, longitude: 151.2 },
        { name: 'near', url: near.url, latitude: 50, longitude: 9 },
      ],
      place: { latitude: '50', longitude: '9' },
      keys: { [STATIC_KEY]: 'acme' },
      adminKeys: { [ADMIN_KEY]: 'ada' },
      variables: { KEY_UNREACHABLE: 'admit' },
      objectsBehind: gate.url,
      onLog: ({ message }) => log.push(message),
    });
  });
  afterAll(async () => {
    await edge?.close();
    await Promise.all([near, far, gate].map((server) => server?.close()));
  });
  beforeEach(() => {
    gate.respond = gone;
  });

  const post = (path: string, body: object, key: string, patienceMs: number) =>
    fetch(`${edge.url}${path}`, {
      method: 'POST',
      headers: { authorization: `Bearer ${key}` },
      body: JSON.stringify(body),
      signal: AbortSignal.timeout(patienceMs),
    });
  const ask = (path: string, delivery: 'stream' | 'whole', key = STATIC_KEY, patienceMs = PATIENCE_MS) => {
    near.respond = delivery === 'stream' ? answerEvents : answerWhole('hello');
    const messages = [{ role: 'user', content: 'What is 3 + 4?' }];
    return post(path, { model: 'math', messages, stream: delivery === 'stream' }, key, patienceMs);
  };

  async function expectAnswer(response: Response, delivery: 'stream' | 'whole'): Promise<void> {
    expect([response.status, response.headers.get('x-signpost-region')]).toEqual([200, 'near']);
    const text = await response.text();
    expect(text).toContain('hello');
    if (delivery === 'stream') expect(text.endsWith(DONE)).toBe(true);
  }

  async function createKey(): Promise<string> {
    const response = await post('/admin/keys', { tenant: 'acme' }, ADMIN_KEY, KEY_PATIENCE_MS);
    expect(response.status).toBe(201);
    return ((await response.json()) as KeyView & { key: string }).key;
  }

  it.each(['whole', 'stream'] as const)('leave requests routed by geography, delivery: %s', async (delivery) => {
    for (let i = 0; i < 5; i++) await expectAnswer(await ask('/v1/chat/completions', delivery), delivery);
    const { plan } = (await (await ask('/v1/route', delivery)).json()) as {
      plan: { region: string; terms: { term: string; why: string }[] }[];
    };
    expect(plan.map(({ region }) => region)).toEqual(['near', 'far']);
    expect(plan[0]?.terms[0]).toMatchObject({ term: 'network', why: expect.stringMatching(/^about \d+ km/) });
    expect(gate.requests.length).toBeGreaterThan(0);
  });

  it('let in a key that was seen to be good, uncounted, and none that was not', async () => {
    gate.respond = THERE;
    const [seen, unseen] = [await createKey(), await createKey()];
    await expectAnswer(await ask('/v1/chat/completions', 'whole', seen), 'whole');
    gate.respond = gone;
    for (const delivery of ['whole', 'stream'] as const) {
      await expectAnswer(await ask('/v1/chat/completions', delivery, seen, KEY_PATIENCE_MS), delivery);
    }
    await expect.poll(() => log.filter((line) => line.includes('key_uncounted'))).toHaveLength(2);
    const refused = await ask('/v1/chat/completions', 'whole', unseen, KEY_PATIENCE_MS);
    expect([refused.status, refused.headers.get('retry-after')]).toEqual([503, '1']);
    expect(await refused.json()).toMatchObject({ error: { code: 'key_unreachable' } });
    gate.respond = THERE;
    await expectAnswer(await ask('/v1/chat/completions', 'whole', unseen), 'whole');
  });

  // Of those that never answer nothing is known yet.
  if (gone === FAILING) {
    it('are said in the log to be out of reach', async () => {
      await (await ask('/v1/chat/completions', 'whole')).text();
      await expect.poll(() => log.join('\n')).toMatch(/fleet_unreadable/);
    });

    it('refuse a heartbeat that can not be kept, so that the region tries again', async () => {
      const answer = await tellEdge(edge.url, heartbeatOf('near'));
      expect(answer.status).toBeGreaterThanOrEqual(500);
    });
  }
});
