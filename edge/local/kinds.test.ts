/**
 * Which regions of which kind are asked when one is slow or breaks; forwarding without a Worker around it.
 */
import { afterEach, beforeEach, expect, it } from 'vitest';
import { forward, only } from '../src/forward/forward.ts';
import { FleetHealth } from '../src/forward/region-health.ts';
import { type Region, regionsSchema } from '../src/plan/regions.ts';
import { DONE, event, startEvents, Upstream } from './upstream.ts';

let near: Upstream;
let far: Upstream;
beforeEach(async () => {
  [near, far] = await Promise.all([Upstream.start(), Upstream.start()]);
});
afterEach(() => Promise.all([near.close(), far.close()]));

const timeouts = {
  connectMs: 5_000,
  firstTokenMs: 5_000,
  answerMs: 5_000,
  idleMs: 5_000,
  keepAliveMs: 5_000,
  wakeMs: 5_000,
};

async function stream(regions: readonly Region[], health = new FleetHealth()): Promise<string> {
  const { body } = await forward(
    {
      method: 'POST',
      path: '/v1/chat/completions',
      fields: { model: 'base', messages: [], stream: true },
      delivery: 'stream',
      tenant: undefined,
      headers: {},
      signal: new AbortController().signal,
    },
    only(regions),
    { signingKey: undefined, secrets: new Map(), timeouts, health, log: () => undefined },
  );
  const reader = new Response(body).body?.getReader() ?? expect.unreachable('it is a stream');
  let text = '';
  for (;;) {
    const piece = await reader.read().catch(() => undefined);
    if (piece?.value === undefined) return text;
    text += new TextDecoder().decode(piece.value);
  }
}

it.each([
  ['regular', 'far'],
  ['overflow', 'near'],
] as const)('a region that takes its time is raced with one of the role %s: %s answers', async (role, winner) => {
  const health = new FleetHealth();
  for (let i = 0; i < 10; i++) health.of('near').took(1);
  near.respond = async (response) => {
    // Many times what it waits before it asks another.
    await new Promise((resolve) => setTimeout(resolve, 500));
    startEvents(response).end(`${event('near')}${DONE}`);
  };
  far.respond = (response) => void startEvents(response).end(`${event('far')}${DONE}`);
  const regions = [
    { name: 'near', url: near.url },
    { name: 'far', url: far.url, role },
  ];
  expect(await stream(regions, health)).toContain(`"content":"${winner}"`);
  expect(far.requests).toHaveLength(role === 'regular' ? 1 : 0);
});

it('a stream of ours that breaks is not gone on with by a stranger', async () => {
  const chunk = {
    id: 'a',
    choices: [{ index: 0, delta: { content: 'one' }, finish_reason: null, token_ids: [1] }],
    prompt_token_ids: [5],
    usage: null,
  };
  near.respond = (response) => {
    startEvents(response).write(`data: ${JSON.stringify(chunk)}\n\n`, () => response.destroy());
  };
  const regions = regionsSchema.parse([
    { name: 'near', url: near.url },
    { name: 'far', kind: 'openai', url: far.url, models: { base: 'base' } },
  ]);
  const text = await stream(regions);
  expect(text).toContain('"content":"one"');
  expect(text).toContain('"error"');
  // It was tried again where it broke, and nowhere else.
  expect([near.requests.length > 1, far.requests.length]).toEqual([true, 0]);
});
