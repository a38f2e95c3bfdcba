/**
 * The Worker's beginning, in workerd on this machine: how long its first answer takes, beside a Worker's that does nothing, what decided it, how long until its
 * classifier is up, and what the isolate holds then.
 * Run: `npx tsx bench/src/edge-start.ts`.
 */
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { startEdge } from '@signpost/edge';
import { Log, LogLevel, Miniflare } from 'miniflare';
import { IsolateHeap } from './isolate/heap.ts';
import { median } from './percentiles.ts';

const ROUNDS = 5;
const MIB = 2 ** 20;
const PROMPT = 'How many people live in the town by the river, and what do they do all day?';

const upstream = createServer((request, response) => {
  request.resume().on('end', () => response.end('{"choices":[]}'));
}).listen(0, '127.0.0.1');
await once(upstream, 'listening');
const regions = [{ name: 'local', url: `http://127.0.0.1:${(upstream.address() as AddressInfo).port}` }];

const ask = (url: string) =>
  fetch(`${url}/v1/chat/completions`, {
    method: 'POST',
    body: JSON.stringify({ model: 'auto', messages: [{ role: 'user', content: PROMPT }] }),
  });

async function startEmpty(): Promise<number> {
  const worker = new Miniflare({
    modules: true,
    script: 'export default { fetch: () => new Response("{}") }',
    cf: {},
    log: new Log(LogLevel.NONE),
  });
  const url = (await worker.ready).origin;
  const started = performance.now();
  await (await ask(url)).text();
  const ms = performance.now() - started;
  await worker.dispose();
  return ms;
}

async function heapBytes(inspector: URL): Promise<number> {
  const heap = await IsolateHeap.open(inspector);
  await heap.collect();
  const bytes = (await heap.bytes()) + (await heap.sharedBytes());
  heap.close();
  return bytes;
}

interface Start {
  readonly firstMs: number;
  readonly classifierMs: number;
  readonly first: string;
  readonly heapMib: number;
}

async function startOwn(): Promise<Start> {
  const edge = await startEdge({ regions, onLog: () => undefined, inspectorPort: 0 });
  const started = performance.now();
  const answer = await ask(edge.url);
  await answer.text();
  const firstMs = performance.now() - started;
  const first = `classifier ${answer.headers.get('x-signpost-classifier')}, rule ${answer.headers.get('x-signpost-rule')}`;
  for (;;) {
    const again = await ask(edge.url);
    await again.text();
    if (again.headers.get('x-signpost-classifier') !== 'cold') break;
  }
  const classifierMs = performance.now() - started - firstMs;
  const heapMib = (await heapBytes(await edge.inspector())) / MIB;
  await edge.close();
  return { firstMs, classifierMs, first, heapMib };
}

// The first of each builds, and warms the file cache.
await startOwn();
await startEmpty();
const own: Start[] = [];
const empty: number[] = [];
for (let round = 0; round < ROUNDS; round++) {
  own.push(await startOwn());
  empty.push(await startEmpty());
}
const firstMs = median(own.map((start) => start.firstMs));
console.log(`first answer in ${firstMs.toFixed(1)} ms, an empty Worker's in ${median(empty).toFixed(1)} ms`);
console.log(`it was decided with: ${[...new Set(own.map(({ first }) => first))].join('; ')}`);
console.log(`classifier up ${median(own.map(({ classifierMs }) => classifierMs)).toFixed(0)} ms later`);
console.log(
  `isolate with the classifier: ${median(own.map(({ heapMib }) => heapMib)).toFixed(1)} MiB (V8 heap and buffers)`,
);
upstream.close();
