/**
 * Without Durable Objects requests are answered all the same: by geography, and without what is kept there.
 */
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type EdgeHandle, startEdge } from './edge.ts';
import { heartbeatOf, tellEdge } from './heartbeats.ts';
import { Upstream } from './upstream.ts';

let near: Upstream;
let far: Upstream;
let edge: EdgeHandle;
const log: string[] = [];

beforeAll(async () => {
  [near, far] = await Promise.all([Upstream.start(), Upstream.start()]);
  edge = await startEdge({
    regions: [
      { name: 'far', url: far.url, latitude: -33.9, longitude: 151.2 },
      { name: 'near', url: near.url, latitude: 50, longitude: 9 },
    ],
    place: { latitude: '50', longitude: '9' },
    objects: 'unreachable',
    onLog: ({ message }) => log.push(message),
  });
});
afterAll(async () => {
  await edge?.close();
  await near?.close();
  await far?.close();
});

const ask = (path: string, stream = false) =>
  fetch(`${edge.url}${path}`, {
    method: 'POST',
    body: JSON.stringify({ model: 'math', messages: [{ role: 'user', content: 'What is 3 + 4?' }], stream }),
  });

it('routes by geography, and says in its log what it can not reach', async () => {
  for (let i = 0; i < 5; i++) {
    const answer = await ask('/v1/chat/completions');
    expect([answer.status, answer.headers.get('x-signpost-region')]).toEqual([200, 'near']);
    await answer.text();
  }
  const { plan } = (await (await ask('/v1/route')).json()) as {
    plan: { region: string; terms: { term: string; why: string }[] }[];
  };
  expect(plan.map(({ region }) => region)).toEqual(['near', 'far']);
  expect(plan[0]?.terms[0]).toMatchObject({ term: 'network', why: expect.stringMatching(/^about \d+ km/) });
  await expect.poll(() => log.join('\n')).toMatch(/fleet_unreadable/);
});

it('refuses a heartbeat that it can not keep, so that the region tries again', async () => {
  const answer = await tellEdge(edge.url, heartbeatOf('near'));
  expect(answer.status).toBeGreaterThanOrEqual(500);
});
