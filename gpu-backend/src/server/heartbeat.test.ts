import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Digest } from '@signpost/contracts';
import { expect, it } from 'vitest';
import type { EngineClient } from '../runner/engine-client.ts';
import { Heartbeats } from './heartbeat.ts';

const engine = {
  facts: { base: 'b'.repeat(64) as Digest },
  stats: async () => ({ residency: { resident: [], loading: [] }, host: { files: [] }, bytesPerSecond: {} }),
} as unknown as EngineClient;

it('goes on while an edge is in trouble, and tells once when that has lasted, and once when it is over', async () => {
  let status = 500;
  let beats = 0;
  const edge = createServer((_, response) => {
    beats++;
    response.writeHead(status).end('overloaded');
  }).listen(0, '127.0.0.1');
  await once(edge, 'listening');
  const told: (string | undefined)[] = [];
  const heartbeats = new Heartbeats({
    region: 'eu',
    engine,
    isDraining: () => false,
    edges: [`http://127.0.0.1:${(edge.address() as AddressInfo).port}`],
    signingKey: undefined,
    onReach: (_, problem) => told.push(problem),
    silenceMs: 300,
  });
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
  edge.closeAllConnections();
  edge.close();
});
