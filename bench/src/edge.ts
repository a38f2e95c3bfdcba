/**
 * What the Worker adds to a request, in workerd on this machine: beside the same upstream asked directly, and beside Portkey's gateway in front of it.
 * Run: `npx tsx bench/src/edge.ts [--peer FOLDER]`; FOLDER has `npm i @portkey-ai/gateway` run in it.
 *
 * The upstream, a process of its own, answers at once, and states the length of what is whole, as regions do. The ways take turns within a round; medians over rounds are printed. The Worker checks the key and the body, classifies
 * each prompt (300 characters, all different), applies the rules, plans, signs the request, and keeps a record of it; Portkey passes it on. Both are asked
 * directly: the Worker without what Miniflare puts in front of it. The record's line of the log, which Cloudflare takes in memory and Miniflare through a pipe, is left out.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { startEdge } from '@signpost/edge';
import { Pool } from 'undici';
import { median } from './percentiles.ts';

const ROUNDS = 5;
const SECONDS = 2;
const CONCURRENCY = { latency: 8, throughput: 64 };
const KEY = 'sk-bench';
const ADMIN_KEY = 'admin-bench';
const PATH = '/v1/chat/completions';
const UPSTREAM = `
const { createServer } = require('node:http');
const body = JSON.stringify({ id: 'x', object: 'chat.completion', created: 1, model: 'm', choices: [{ index: 0, message: { role: 'assistant', content: 'hello' }, finish_reason: 'stop' }], usage: { prompt_tokens: 1, completion_tokens: 1, total_tokens: 2 } });
const event = (content, token) => 'data: ' + JSON.stringify({ id: 'x', object: 'chat.completion.chunk', created: 1, model: 'm', choices: [{ index: 0, delta: { content }, finish_reason: null, token_ids: [token] }] }) + '\\n\\n';
const events = Array.from({ length: 32 }, (_, i) => event('word ', i)).join('') + 'data: [DONE]\\n\\n';
createServer((request, response) => {
  let text = '';
  request.on('data', (part) => { text += part; });
  request.on('end', () => {
    const isStream = text.includes('"stream":true');
    const headers = isStream ? { 'content-type': 'text/event-stream' } : { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) };
    response.writeHead(200, headers).end(isStream ? events : body);
  });
}).listen(0, '127.0.0.1', function () { process.send(this.address().port); });
`;

interface Way {
  readonly name: string;
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
}

const { values } = parseArgs({ options: { peer: { type: 'string' } } });

const WORDS =
  'what is the value of a function that returns number when given list and how many people live in town near river please write short story about old house with three rooms where nobody has been since summer tell me how to add two fractions or compute average speed train leaves station at noon travels hours sort array python code class method error message explain why sky blue'.split(
    ' ',
  );
let bodies = 0;
function bodyOf(stream: boolean): string {
  bodies++;
  const words = Array.from({ length: 80 }, (_, i) => WORDS[(7919 * bodies * (i + 1)) % WORDS.length]);
  return JSON.stringify({
    model: 'auto',
    messages: [{ role: 'user', content: words.join(' ').slice(0, 300) }],
    stream,
  });
}

interface Measured {
  /** Requests a second. */
  readonly rate: number;
  /** The median of their times in milliseconds. */
  readonly ms: number;
  /** Milliseconds of each that classifying took, by the Worker's own clock, which counts whole ones: their mean says more than each. */
  readonly classifyMs: readonly number[];
}

async function measure(way: Way, concurrency: number, stream: boolean): Promise<Measured> {
  const times: number[] = [];
  const classifyMs: number[] = [];
  const pool = new Pool(way.url, { connections: concurrency });
  const headers = { 'content-type': 'application/json', authorization: `Bearer ${KEY}`, ...way.headers };
  const started = performance.now();
  const end = started + 1_000 * SECONDS;
  const worker = async () => {
    while (performance.now() < end) {
      const body = bodyOf(stream);
      const at = performance.now();
      const response = await pool.request({ path: PATH, method: 'POST', body, headers });
      const text = await response.body.text();
      times.push(performance.now() - at);
      const classify = /classify;dur=(?<ms>[\d.]+)/.exec(String(response.headers['server-timing']))?.groups?.ms;
      if (classify !== undefined) classifyMs.push(Number(classify));
      if (response.statusCode !== 200 || !text.includes(stream ? '[DONE]' : 'hello'))
        throw new Error(`${way.name} answered ${response.statusCode} ${text.slice(0, 300)}`);
    }
  };
  await Promise.all(Array.from({ length: concurrency }, worker));
  const rate = (1_000 * times.length) / (performance.now() - started);
  await pool.close();
  return { rate, ms: median(times), classifyMs };
}

async function freePort(): Promise<number> {
  const probe = createServer().listen(0, '127.0.0.1');
  await once(probe, 'listening');
  const { port } = probe.address() as { port: number };
  probe.close();
  await once(probe, 'close');
  return port;
}

async function startPortkey(folder: string, upstream: string): Promise<{ way: Way; child: ChildProcess }> {
  const port = await freePort();
  const script = join(folder, 'node_modules/@portkey-ai/gateway/build/start-server.js');
  const child = spawn(process.execPath, [script, '--headless', `--port=${port}`], { stdio: 'ignore' });
  const url = `http://127.0.0.1:${port}`;
  const headers = { 'x-portkey-provider': 'openai', 'x-portkey-custom-host': `${upstream}/v1` };
  for (let left = 100; left > 0; left--) {
    const isUp = await fetch(`${url}${PATH}`, { method: 'POST', body: bodyOf(false), headers }).then(
      () => true,
      () => false,
    );
    if (isUp) return { way: { name: 'Portkey', url, headers }, child };
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  throw new Error('Portkey did not start');
}

const upstream = spawn(process.execPath, ['-e', UPSTREAM], { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
const [port] = (await once(upstream, 'message')) as [number];
const upstreamUrl = `http://127.0.0.1:${port}`;
const edge = await startEdge({
  regions: [{ name: 'local', url: upstreamUrl }],
  regionSecret: 's'.repeat(64),
  keys: { [KEY]: 'bench' },
  adminKeys: { [ADMIN_KEY]: 'bench' },
  variables: { LOG_DECISIONS: 'false' },
  onLog: () => undefined,
});
const peer = values.peer === undefined ? undefined : await startPortkey(values.peer, upstreamUrl);
const ways: Way[] = [
  { name: 'upstream alone', url: upstreamUrl, headers: {} },
  { name: 'Signpost', url: edge.directUrl, headers: {} },
  ...(peer === undefined ? [] : [peer.way]),
];
try {
  for (;;) {
    const headers = { authorization: `Bearer ${ADMIN_KEY}` };
    const health = (await (await fetch(`${edge.url}/health`, { headers })).json()) as {
      classifier: { status: string };
    };
    if (health.classifier.status === 'ready') break;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  for (const stream of [false, true]) {
    // Portkey takes a stream apart by rules of its own, which ours doesn't follow.
    const asked = ways.filter(({ name }) => !stream || name !== 'Portkey');
    const results = new Map(asked.map(({ name }) => [name, { ms: [] as number[], rate: [] as number[] }]));
    const classifyMs: number[] = [];
    for (let round = 0; round <= ROUNDS; round++) {
      for (const way of asked) {
        const { ms, ...measured } = await measure(way, CONCURRENCY.latency, stream);
        const { rate } = await measure(way, CONCURRENCY.throughput, stream);
        // The first warms up.
        if (round === 0) continue;
        classifyMs.push(...measured.classifyMs);
        results.get(way.name)?.ms.push(ms);
        results.get(way.name)?.rate.push(rate);
      }
    }
    console.log(
      `\n${stream ? 'streamed, 32 events' : 'whole'}: p50 at ${CONCURRENCY.latency} at once, requests/s at ${CONCURRENCY.throughput}`,
    );
    const bare = median(results.get('upstream alone')?.ms ?? []);
    for (const [name, { ms, rate }] of results) {
      const added = name === 'upstream alone' ? '' : `, ${(median(ms) - bare).toFixed(2)} ms added`;
      console.log(
        `${name.padEnd(16)} ${median(ms).toFixed(2).padStart(7)} ms  ${median(rate).toFixed(0).padStart(6)}/s${added}`,
      );
    }
    const mean = classifyMs.reduce((sum, ms) => sum + ms, 0) / classifyMs.length;
    const within = classifyMs.filter((ms) => ms <= 1).length / classifyMs.length;
    console.log(
      `classifying: ${(1e3 * mean).toFixed(0)} µs on average, 1 ms at most in ${(100 * within).toFixed(1)} % of ${classifyMs.length}`,
    );
    const [own, other] = ['Signpost', 'Portkey'].map((name) => median(results.get(name)?.rate ?? []));
    if (other !== undefined && !Number.isNaN(other))
      console.log(`throughput beside Portkey's: ${((own ?? 0) / (other ?? 1)).toFixed(2)} ×`);
  }
} finally {
  await edge.close();
  upstream.kill();
  peer?.child.kill();
}
