/**
 * A region at zero: another answers while its hook is called, once; and where it is the only one, the app is told when to come again.
 */
import { afterEach, expect, it, vi } from 'vitest';
import { type EdgeHandle, startEdge } from './edge.ts';
import { heartbeatOf, tellEdge } from './heartbeats.ts';
import { answerStatus, Upstream } from './upstream.ts';

const open: { close(): Promise<void> }[] = [];
afterEach(async () => {
  for (const one of open.splice(0).reverse()) await one.close();
});
vi.setConfig({ testTimeout: 60_000 });

async function upstream(): Promise<Upstream> {
  const started = await Upstream.start();
  open.push(started);
  return started;
}

async function begin(others: 'another' | 'alone') {
  const [sleeper, other, hook] = await Promise.all([upstream(), upstream(), upstream()]);
  hook.respond = answerStatus(202);
  const edge: EdgeHandle = await startEdge({
    regions: [
      {
        name: 'zero',
        url: sleeper.url,
        latitude: 50,
        longitude: 9,
        wake: { url: hook.url, secret: 'WAKE_KEY', usualMs: 45_000 },
      },
      ...(others === 'another' ? [{ name: 'other', url: other.url, latitude: 38, longitude: -77 }] : []),
    ],
    place: { latitude: '50', longitude: '9' },
    variables: { WAKE_KEY: 'wake-up' },
    onLog: () => undefined,
  });
  open.push(edge);
  const body = JSON.stringify({ model: 'base', messages: [{ role: 'user', content: 'hi' }] });
  const post = (path: string) => fetch(`${edge.url}${path}`, { method: 'POST', body });
  const plan = async () =>
    ((await (await post('/v1/route')).json()) as { plan: { region: string; asleep: boolean }[] }).plan;
  const beat = (name: string) =>
    tellEdge(edge.url, heartbeatOf(name, { replica: `${name === 'zero' ? 1 : 2}1111111-1111-4111-8111-111111111111` }));
  return { edge, hook, post, plan, beat };
}

it('is woken while another answers, and answers again once it is heard of', async () => {
  const { hook, post, plan, beat } = await begin('another');
  const asked = async () => (await post('/v1/chat/completions')).headers.get('x-signpost-region');
  // Nothing is known yet.
  expect(await asked()).toBe('zero');
  const isAsleep = async () => {
    await beat('other');
    return (await plan()).find(({ region }) => region === 'zero')?.asleep;
  };
  await expect.poll(isAsleep, { timeout: 30_000, interval: 500 }).toBe(true);
  for (let i = 0; i < 3; i++) expect(await asked()).toBe('other');
  await expect.poll(() => hook.requests.length).toBe(1);
  expect(hook.last).toMatchObject({
    method: 'POST',
    body: '{"region":"zero"}',
    headers: { authorization: 'Bearer wake-up' },
  });
  await beat('zero');
  await expect.poll(asked, { timeout: 10_000 }).toBe('zero');
  expect(hook.requests).toHaveLength(1);
});

it('that is the only one says when to come again', async () => {
  const { hook, post, plan } = await begin('alone');
  await expect.poll(async () => (await plan())[0]?.asleep, { timeout: 30_000, interval: 500 }).toBe(true);
  const answer = await post('/v1/chat/completions');
  expect([answer.status, answer.headers.get('retry-after')]).toEqual([503, '45']);
  expect(await answer.json()).toMatchObject({
    error: { code: 'region_waking', message: expect.stringContaining('zero') },
  });
  await expect.poll(() => hook.requests.length).toBe(1);
});
