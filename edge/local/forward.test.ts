/**
 * Forwarding without a Worker around it: what workerd would cancel by itself when a request is over is here only cancelled by our own code.
 */
import { afterEach, beforeEach, expect, it } from 'vitest';
import { forward, only } from '../src/forward/forward.ts';
import { FleetHealth } from '../src/forward/region-health.ts';
import { event, startEvents, Upstream } from './upstream.ts';

let region: Upstream;
beforeEach(async () => {
  region = await Upstream.start();
});
afterEach(() => region.close());

const timeouts = {
  connectMs: 5_000,
  firstTokenMs: 5_000,
  answerMs: 5_000,
  idleMs: 30_000,
  keepAliveMs: 5_000,
  wakeMs: 5_000,
};

it.each([
  ['leaves', (app: AbortController) => app.abort(new Error('left'))],
  ['stops reading', (_: AbortController, reader: ReadableStreamDefaultReader) => void reader.cancel('enough')],
])('a stream that has begun ends at its region, too, when the app %s', async (_, leave) => {
  region.respond = (response) => void startEvents(response).write(event('one'));
  const app = new AbortController();
  const health = new FleetHealth();
  const logged: string[] = [];
  const { body } = await forward(
    {
      method: 'POST',
      path: '/v1/chat/completions',
      fields: { model: 'base', messages: [], stream: true },
      delivery: 'stream',
      tenant: undefined,
      headers: {},
      signal: app.signal,
    },
    only([{ name: 'near', url: region.url }]),
    { signingKey: undefined, secrets: new Map(), timeouts, health, log: (name) => logged.push(name) },
  );
  const reader = new Response(body).body?.getReader() ?? expect.unreachable('it is a stream');
  expect(new TextDecoder().decode((await reader.read()).value)).toBe(event('one'));
  leave(app, reader);
  await region.last.aborted;
  // Which is no fault of the region's.
  expect(logged).toEqual([]);
  expect(health.of('near').breaker.state(Date.now())).toBe('closed');
});
