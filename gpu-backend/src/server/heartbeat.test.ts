import { once } from 'node:events';
import { createServer, type RequestListener, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Digest } from '@signpost/contracts';
import { expect, it, onTestFinished } from 'vitest';
import type { EngineClient } from '../runner/engine-client.ts';
import { type HeartbeatOptions, Heartbeats } from './heartbeat.ts';

const engine = {
  facts: { base: 'b'.repeat(64) as Digest },
  stats: async () => ({ residency: { resident: [], loading: [] }, host: { whole: [] }, bytesPerSecond: {} }),
} as unknown as EngineClient;

/** An edge, by its URL. */
async function edgeOf(answer: RequestListener): Promise<string> {
  const edge = createServer(answer).listen(0, '127.0.0.1');
  await once(edge, 'listening');
  onTestFinished(() => {
    edge.closeAllConnections();
    edge.close();
  });
  return `http://127.0.0.1:${(edge.address() as AddressInfo).port}`;
}

function heartbeatsTo(edges: readonly string[], options: Partial<HeartbeatOptions> = {}): Heartbeats {
  return new Heartbeats({
    region: 'eu',
    engine,
    isDraining: () => false,
    edges,
    signingKey: undefined,
    onReach: () => undefined,
    ...options,
  });
}

it('goes on while an edge is in trouble, and tells once when that has lasted, and once when it is over', async () => {
  let status = 500;
  let beats = 0;
  const edge = await edgeOf((_, response) => {
    beats++;
    response.writeHead(status).end('overloaded');
  });
  const told: (string | undefined)[] = [];
  const heartbeats = heartbeatsTo([edge], { onReach: (_, problem) => told.push(problem), silenceMs: 300 });
  const until = async (count: number) => {
    while (told.length < count) {
      heartbeats.changed();
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  };
  await expect.poll(() => beats, { timeout: 5_000 }).toBe(1);
  // One failure is none.
  expect(told).toEqual([]);
  await until(1);
  expect(told).toEqual(['it answered 500 overloaded']);
  const failing = beats;
  status = 200;
  await until(2);
  expect(told).toEqual(['it answered 500 overloaded', undefined]);
  expect(beats).toBeGreaterThan(failing);
  await heartbeats.close();
  const last = beats;
  heartbeats.changed();
  await new Promise((resolve) => setTimeout(resolve, 150));
  expect(beats).toBe(last);
});

it('tells an edge of each change while another one never answers', async () => {
  const seen: string[] = [];
  const unanswered: ServerResponse[] = [];
  const silent = await edgeOf((_, response) => {
    seen.push('silent');
    unanswered.push(response);
    response.once('close', () => seen.push('silent given up'));
  });
  const sound = await edgeOf((_, response) => {
    seen.push('sound');
    response.end();
  });
  const heartbeats = heartbeatsTo([silent, sound]);
  const soundBeats = () => seen.filter((what) => what === 'sound').length;
  await expect.poll(() => new Set(seen)).toEqual(new Set(['silent', 'sound']));
  for (let change = 2; change <= 5; change++) {
    heartbeats.changed();
    await expect.poll(soundBeats, { interval: 5 }).toBe(change);
  }
  expect(seen.filter((what) => what !== 'sound')).toEqual(['silent']);
  // It is told what it has missed.
  unanswered.shift()?.end();
  await expect.poll(() => unanswered.length).toBe(1);
  unanswered.shift()?.end();
  await heartbeats.close();
});

it('tells changes that come together once', async () => {
  let beats = 0;
  const edge = await edgeOf((_, response) => {
    beats++;
    response.end();
  });
  const heartbeats = heartbeatsTo([edge]);
  await expect.poll(() => beats).toBe(1);
  for (let change = 0; change < 100; change++) heartbeats.changed();
  await expect.poll(() => beats, { interval: 5 }).toBe(2);
  await heartbeats.close();
  expect(beats).toBe(2);
});
