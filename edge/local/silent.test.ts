/**
 * A whole answer that is waited for in a region which has fallen silent: stopped, or cut off without a word.
 */
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { EdgeHandle } from './edge.ts';
import { heartbeatOf, tellEdge } from './heartbeats.ts';
import { startNearAndFar } from './near-and-far.ts';
import { answerWhole, type Upstream } from './upstream.ts';

let near: Upstream;
let far: Upstream;
let edge: EdgeHandle;
let close: (() => Promise<void>) | undefined;

beforeAll(async () => {
  ({ near, far, edge, close } = await startNearAndFar());
});
afterAll(() => close?.());

const post = (path: string) =>
  fetch(`${edge.url}${path}`, {
    method: 'POST',
    body: JSON.stringify({ model: 'base', messages: [{ role: 'user', content: 'hi' }] }),
  });

it('comes from the next one, long before its time is up', { timeout: 60_000 }, async () => {
  await tellEdge(edge.url, heartbeatOf('near'));
  const isHeard = async () => JSON.stringify(await (await post('/v1/route')).json());
  await expect.poll(isHeard, { timeout: 5_000 }).toContain('0 prompt tokens wait');
  near.respond = () => {};
  far.respond = answerWhole('from afar');
  // The time for whole answers is two minutes, this test's one.
  const response = await post('/v1/chat/completions');
  expect(response.headers.get('x-signpost-region')).toBe('far');
  expect(await response.text()).toContain('from afar');
  await near.last.aborted;
});

it('is waited for where its region goes on to be heard', { timeout: 60_000 }, async () => {
  const replica = '11111111-1111-4111-8111-111111111111';
  const tell = () => tellEdge(edge.url, heartbeatOf('near', { replica }));
  await tell();
  const isHeard = async () => JSON.stringify(await (await post('/v1/route')).json());
  await expect.poll(isHeard, { timeout: 5_000 }).toContain('0 prompt tokens wait');
  const beats = setInterval(() => void tell(), 2_000);
  near.respond = async (response, request) => {
    await new Promise((resolve) => setTimeout(resolve, 15_000));
    await answerWhole('at last')(response, request);
  };
  try {
    const response = await post('/v1/chat/completions');
    expect(await response.text()).toContain('at last');
    expect(response.headers.get('x-signpost-region')).toBe('near');
  } finally {
    clearInterval(beats);
  }
});
