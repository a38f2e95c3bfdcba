/**
 * How long the Worker, in workerd on this machine, holds each event of a stream before it passes it on; beside a client that has the stream from the upstream itself.
 * Run: `npx tsx bench/src/relay.ts`.
 *
 * The upstream, a process of its own, writes its events apart, each with the time of its writing by the clock that all processes of a machine share; the client notes
 * when each came. The ways take turns within a round; all events of all rounds are printed together.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { Agent, request as httpRequest, type IncomingMessage } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { startEdge } from '@signpost/edge';
import { percentile } from './percentiles.ts';

const ROUNDS = 5;
const EVENTS = 32;
const EVERY_MS = 10;
/** Between the beginnings of streams that go on at once: what is measured is passing events on, not the requests' turns in one isolate. */
const APART_MS = 10;
/** At once. */
const STREAMS = [1, 16];
/** Streams of a round, all together. */
const PER_ROUND = 16;
const UPSTREAM = `
const { createServer } = require('node:http');
const { setTimeout: sleep } = require('node:timers/promises');
const event = (delta, finish) => 'data: ' + JSON.stringify({ id: 'x', object: 'chat.completion.chunk', created: 1, model: 'm', choices: [{ index: 0, delta, finish_reason: finish, token_ids: [1] }] }) + '\\n\\n';
createServer(async (request, response) => {
  for await (const _ of request);
  response.writeHead(200, { 'content-type': 'text/event-stream' });
  for (let i = 0; i < ${EVENTS}; i++) {
    response.write(event({ content: String(process.hrtime.bigint()) }, null));
    await sleep(${EVERY_MS});
  }
  response.end(event({}, 'stop') + 'data: [DONE]\\n\\n');
}).listen(0, '127.0.0.1', function () { process.send(this.address().port); });
`;

class Way {
  readonly name: string;
  readonly url: string;
  readonly agent = new Agent({ keepAlive: true });
  /** From an event's writing until it came, in milliseconds. */
  firstMs: number[] = [];
  laterMs: number[] = [];
  /** In one chunk. */
  mostEvents = 0;

  constructor(name: string, url: string) {
    this.name = name;
    this.url = url;
  }

  forget(): void {
    [this.firstMs, this.laterMs, this.mostEvents] = [[], [], 0];
  }
}

const BODY = JSON.stringify({
  model: 'auto',
  messages: [{ role: 'user', content: 'How many people live in the town by the river, and what do they do all day?' }],
  stream: true,
});

async function stream(way: Way): Promise<void> {
  const asked = httpRequest(`${way.url}/v1/chat/completions`, {
    method: 'POST',
    agent: way.agent,
    headers: { 'content-type': 'application/json' },
  }).end(BODY);
  const [response] = (await once(asked, 'response')) as [IncomingMessage];
  if (response.statusCode !== 200) throw new Error(`${way.name} answered ${response.statusCode}`);
  let events = 0;
  response.on('data', (chunk: Buffer) => {
    const now = process.hrtime.bigint();
    const written = Array.from(chunk.toString().matchAll(/"content":"(\d+)"/g), ([, time = '']) => BigInt(time));
    way.mostEvents = Math.max(way.mostEvents, written.length);
    for (const at of written) (events++ === 0 ? way.firstMs : way.laterMs).push(Number(now - at) / 1e6);
  });
  await once(response, 'end');
  if (events !== EVENTS) throw new Error(`${events} of ${EVENTS} events came through ${way.name}`);
}

async function measure(way: Way, atOnce: number): Promise<void> {
  for (let left = PER_ROUND; left > 0; left -= atOnce)
    await Promise.all(Array.from({ length: atOnce }, (_, i) => sleep(i * APART_MS).then(() => stream(way))));
}

const upstream = spawn(process.execPath, ['-e', UPSTREAM], { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
const [port] = (await once(upstream, 'message')) as [number];
const url = `http://127.0.0.1:${port}`;
const edge = await startEdge({
  regions: [{ name: 'local', url }],
  regionSecret: 's'.repeat(64),
  variables: { LOG_DECISIONS: 'false' },
  onLog: () => undefined,
});
const [bare, own] = [new Way('upstream itself', url), new Way('Signpost', edge.directUrl)];
const row = (name: string, first: string, later: string, most = '') =>
  console.log(`${name.padEnd(18)}${first.padStart(16)}${later.padStart(16)}${most.padStart(24)}`);
try {
  for (const atOnce of STREAMS) {
    // Code that has run, and connections that are open.
    for (const way of [bare, own]) await measure(way, PER_ROUND);
    for (const way of [bare, own]) way.forget();
    for (let round = 0; round < ROUNDS; round++) for (const way of [bare, own]) await measure(way, atOnce);
    console.log(`\n${atOnce} at once: ms from an event's writing until it came, p50 / p95`);
    row('', 'first event', 'later events', 'most events in a chunk');
    const both = (of: (share: number) => number) => `${of(0.5).toFixed(2)} / ${of(0.95).toFixed(2)}`;
    const times = (ms: readonly number[]) => both((share) => percentile(ms, share));
    for (const { name, firstMs, laterMs, mostEvents } of [bare, own])
      row(name, times(firstMs), times(laterMs), String(mostEvents));
    const added = (of: (way: Way) => readonly number[]) =>
      both((share) => percentile(of(own), share) - percentile(of(bare), share));
    row(
      'added',
      added(({ firstMs }) => firstMs),
      added(({ laterMs }) => laterMs),
    );
  }
} finally {
  await edge.close();
  upstream.kill();
}
