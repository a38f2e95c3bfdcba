/**
 * A region at zero: another answers while its hook is called, once; and where it is the only one, a stream waits for it, and anything else is told when to come again.
 */
import { afterEach, describe, expect, it, vi } from 'vitest';
import { type EdgeHandle, startEdge } from './edge.ts';
import { heartbeatOf, tellEdge } from './heartbeats.ts';
import { answerStatus, answerWhole, event, startEvents, Upstream } from './upstream.ts';

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

const OURS = { kind: 'http' } as const;
const STRANGER = { kind: 'openai', models: { base: 'theirs' } } as const;

async function begin(
  others: 'another' | 'alone',
  {
    variables = {},
    sleeps = OURS,
  }: { variables?: Record<string, string>; sleeps?: typeof OURS | typeof STRANGER } = {},
) {
  const [sleeper, other, hook] = await Promise.all([upstream(), upstream(), upstream()]);
  hook.respond = answerStatus(202);
  const edge: EdgeHandle = await startEdge({
    regions: [
      {
        ...sleeps,
        name: 'zero',
        url: sleeper.url,
        latitude: 50,
        longitude: 9,
        wake: { url: hook.url, secret: 'WAKE_KEY', usualMs: 45_000 },
      },
      ...(others === 'another' ? [{ name: 'other', url: other.url, latitude: 38, longitude: -77 }] : []),
    ],
    place: { latitude: '50', longitude: '9' },
    variables: { WAKE_KEY: 'wake-up', KEEP_ALIVE_MS: '200', ...variables },
    onLog: () => undefined,
  });
  open.push(edge);
  const asked = { model: 'base', messages: [{ role: 'user', content: 'hi' }] };
  const post = (path: string, more: object = {}) =>
    fetch(`${edge.url}${path}`, { method: 'POST', body: JSON.stringify({ ...asked, ...more }) });
  const plan = async () =>
    ((await (await post('/v1/route')).json()) as { plan: { region: string; asleep: boolean }[] }).plan;
  const beat = (name: string) =>
    tellEdge(edge.url, heartbeatOf(name, { replica: `${name === 'zero' ? 1 : 2}1111111-1111-4111-8111-111111111111` }));
  return { hook, post, plan, beat, sleeper };
}

it('is woken while another answers, and answers again once it is heard of', async () => {
  const { hook, post, plan, beat, sleeper } = await begin('another');
  const asked = async () => (await post('/v1/chat/completions')).headers.get('x-signpost-region');
  // Nothing is known yet.
  expect((await plan())[0]?.region).toBe('zero');
  sleeper.respond = answerStatus(503);
  expect(await asked()).toBe('other');
  const isAsleep = async () => {
    await beat('other');
    return (await plan()).find(({ region }) => region === 'zero')?.asleep;
  };
  await expect.poll(isAsleep, { timeout: 30_000, interval: 100 }).toBe(true);
  const { length } = sleeper.requests;
  for (let i = 0; i < 3; i++) expect(await asked()).toBe('other');
  await expect.poll(() => hook.requests.length).toBe(1);
  expect(hook.last).toMatchObject({
    method: 'POST',
    body: '{"region":"zero"}',
    headers: { authorization: 'Bearer wake-up' },
  });
  expect(sleeper.requests).toHaveLength(length);
  sleeper.respond = answerWhole('awake');
  await beat('zero');
  await expect.poll(asked, { timeout: 10_000 }).toBe('zero');
  expect(hook.requests).toHaveLength(1);
});

it('that is the only one says when to come again, but a stream waits for it', async () => {
  const { hook, post, beat, sleeper } = await begin('alone');
  sleeper.respond = answerStatus(503);
  const answer = await post('/v1/chat/completions');
  expect([answer.status, answer.headers.get('retry-after')]).toEqual([503, '45']);
  expect(await answer.json()).toMatchObject({
    error: { code: 'region_waking', message: expect.stringContaining('zero') },
  });
  await expect.poll(() => hook.requests.length).toBe(1);

  const streamed = await post('/v1/chat/completions', { stream: true });
  const reader = streamed.body?.getReader() ?? expect.unreachable('it is a stream');
  const read = async () => new TextDecoder().decode((await reader.read()).value);
  expect([streamed.status, await read()]).toEqual([200, ': keep-alive\n\n']);
  const { length } = sleeper.requests;
  sleeper.respond = (response) => void startEvents(response).end(`${event('awake')}data: [DONE]\n\n`);
  await beat('zero');
  const rest = async () => {
    let text = '';
    while (!text.includes('[DONE]')) text += await read();
    return text;
  };
  expect(await rest()).toContain('awake');
  expect(sleeper.requests).toHaveLength(length + 1);
  expect(hook.requests).toHaveLength(1);
});

it('is woken by the first request of an isolate that has heard of nobody, too, once it has failed', async () => {
  const { hook, post, beat, sleeper } = await begin('alone');
  sleeper.respond = answerStatus(503);
  const answer = post('/v1/chat/completions', { stream: true });
  await expect.poll(() => hook.requests.length).toBe(1);
  sleeper.respond = (response) => void startEvents(response).end(`${event('awake')}data: [DONE]\n\n`);
  await beat('zero');
  expect(await (await answer).text()).toContain('awake');
});

it('is waited for no longer than is set', async () => {
  const { post, sleeper } = await begin('alone', { variables: { WAKE_TIMEOUT_MS: '1000', KEEP_ALIVE_MS: '10000' } });
  sleeper.respond = answerStatus(503);
  const answer = await post('/v1/chat/completions', { stream: true });
  expect([answer.status, answer.headers.get('retry-after')]).toEqual([503, '45']);
});

describe('a stranger at zero', () => {
  const prompts = ({ requests }: Upstream) => requests.filter(({ path }) => path !== '/metrics');

  it('is woken while another answers, and answers again as soon as it is there when it is next asked', async () => {
    const { hook, post, plan, beat, sleeper } = await begin('another', { sleeps: STRANGER });
    const asked = async () => (await post('/v1/chat/completions')).headers.get('x-signpost-region');
    await beat('other');
    expect((await plan())[0]).toMatchObject({ region: 'zero', asleep: false });
    sleeper.respond = answerStatus(503);
    expect(await asked()).toBe('other');
    expect((await plan()).at(-1)).toMatchObject({ region: 'zero', asleep: true });
    for (let i = 0; i < 3; i++) expect(await asked()).toBe('other');
    expect(prompts(sleeper)).toHaveLength(1);
    await expect.poll(() => hook.requests.length).toBe(1);
    expect(hook.last).toMatchObject({
      method: 'POST',
      body: '{"region":"zero"}',
      headers: { authorization: 'Bearer wake-up' },
    });
    sleeper.respond = answerWhole('awake');
    await expect.poll(asked, { timeout: 20_000, interval: 100 }).toBe('zero');
    expect(hook.requests).toHaveLength(1);
  });

  it('that is the only one says when to come again, but a stream waits for it', async () => {
    const { hook, post, sleeper } = await begin('alone', { sleeps: STRANGER });
    sleeper.respond = answerStatus(503);
    const answer = await post('/v1/chat/completions');
    expect([answer.status, answer.headers.get('retry-after')]).toEqual([503, '45']);
    expect(await answer.json()).toMatchObject({ error: { code: 'region_waking' } });
    await expect.poll(() => hook.requests.length).toBe(1);
    const streamed = post('/v1/chat/completions', { stream: true });
    // Asked again, and not there yet.
    await expect.poll(() => prompts(sleeper).length, { timeout: 20_000 }).toBeGreaterThan(1);
    sleeper.respond = (response) => void startEvents(response).end(`${event('awake')}data: [DONE]\n\n`);
    expect(await (await streamed).text()).toContain('awake');
    expect(hook.requests).toHaveLength(1);
  });
});
