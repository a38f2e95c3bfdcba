/**
 * A conversation goes on where its beginning is cached, while that is worth the way.
 */
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { EdgeHandle } from './edge.ts';
import { heartbeatOf, tellEdge } from './heartbeats.ts';
import { startNearAndFar } from './near-and-far.ts';

let edge: EdgeHandle;
let close: (() => Promise<void>) | undefined;

beforeAll(async () => {
  ({ edge, close } = await startNearAndFar());
});
afterAll(() => close?.());

type Message = { readonly role: string; readonly content: string };
const user = (content: string): Message => ({ role: 'user', content });
const STORY = user('Tell me more of this, and of that. '.repeat(120));

async function post(path: string, messages: readonly Message[], model = 'base'): Promise<Response> {
  const body = JSON.stringify({ model, messages });
  return fetch(`${edge.url}${path}`, { method: 'POST', body });
}
const regionOf = async (messages: readonly Message[], model?: string) =>
  (await post('/v1/chat/completions', messages, model)).headers.get('x-signpost-region');

interface Explained {
  readonly plan: readonly {
    readonly region: string;
    readonly terms: readonly { readonly term: string; readonly why: string }[];
  }[];
}
const explained = async (messages: readonly Message[]) =>
  (await (await post('/v1/route', messages)).json()) as Explained;

/** Until what the edge has heard is in its plans: the nearer region's queue. */
async function told(queuedTokens: number): Promise<void> {
  const replica = '11111111-1111-4111-8111-111111111111';
  const rate = { prefillTokensPerSecond: 1_000 };
  await tellEdge(edge.url, heartbeatOf('near', { ...rate, queuedTokens, replica }));
  await tellEdge(edge.url, heartbeatOf('far', { ...rate, replica: '22222222-2222-4222-8222-222222222222' }));
  const why = async () =>
    (await explained([user('hi')])).plan
      .find(({ region }) => region === 'near')
      ?.terms.find(({ term }) => term === 'queue')?.why;
  await expect.poll(why, { timeout: 5_000 }).toBe(`${queuedTokens} prompt tokens wait`);
}

it('goes on where it began, and elsewhere once that would take longer', async () => {
  // Nearer, but busy: the conversation begins far away.
  await told(300);
  expect(await regionOf([STORY])).toBe('far');
  // The nearer one would answer others first again.
  await told(0);
  expect(await regionOf([user('Something else.')])).toBe('near');
  const longer = [STORY, { role: 'assistant', content: 'It goes on.' }, user('And then?')];
  const { plan } = await explained(longer);
  expect(plan[0]).toMatchObject({ region: 'far' });
  expect(plan[0]?.terms.at(-1)?.why).toMatch(/^about \d+ tokens, about 1024 of them cached$/);
  expect(plan[1]?.terms.at(-1)?.why).toMatch(/^about \d+ tokens$/);
  expect(await regionOf(longer)).toBe('far');
  // Another model has another cache.
  expect(await regionOf(longer, 'math')).toBe('near');

  await tellEdge(
    edge.url,
    heartbeatOf('far', {
      prefillTokensPerSecond: 1_000,
      queuedTokens: 5_000,
      replica: '22222222-2222-4222-8222-222222222222',
    }),
  );
  await expect.poll(() => regionOf(longer), { timeout: 5_000 }).toBe('near');
});
