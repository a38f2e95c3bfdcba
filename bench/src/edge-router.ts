/**
 * What a router from R2 costs the Worker, in workerd on this machine: how long until it is at work, what the isolate holds then, at most meanwhile, and after another of
 * its size has taken its place; and the time of a request with a short prompt and with a long one, beside the bundled router's.
 * Run: `npx tsx bench/src/edge-router.ts ROUTER` (a folder as `signpost-packer router import` writes it; takes about a minute and a half).
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { sha256 } from '@signpost/contracts';
import { ROUTER_POINTER_KEY, routerObjectKey } from '@signpost/contracts/router';
import { type EdgeHandle, startEdge } from '@signpost/edge';
import { IsolateHeap } from './isolate/heap.ts';
import { median } from './percentiles.ts';

const MIB = 2 ** 20;
const RUNS = 30;
const POLL_MS = 20;
const START_LIMIT_MS = 60_000;
const SHORT = 'What does the liability clause of my lease mean?';
const LONG = 'please tell me about this clause '.repeat(60);

const [folder] = process.argv.slice(2);
if (folder === undefined) throw new Error('usage: npx tsx bench/src/edge-router.ts ROUTER');

type Objects = Record<string, string | Uint8Array>;

/** The folder's objects; `threshold` makes them another router's. */
async function objectsOf(dir: string, threshold: number): Promise<Objects> {
  const encoder = new TextEncoder();
  const manifest = JSON.parse(await readFile(join(dir, 'router.json'), 'utf8')) as object;
  const files = {
    manifest: encoder.encode(JSON.stringify({ ...manifest, threshold })),
    tokenizer: new Uint8Array(await readFile(join(dir, 'tokenizer.json'))),
    model: new Uint8Array(await readFile(join(dir, 'model.onnx'))),
  };
  const named = await Promise.all(
    Object.entries(files).map(async ([part, bytes]) => [part, await sha256(bytes), bytes] as const),
  );
  return {
    ...Object.fromEntries(named.map(([, digest, bytes]) => [routerObjectKey(digest), bytes])),
    [ROUTER_POINTER_KEY]: JSON.stringify(Object.fromEntries(named.map(([part, digest]) => [part, digest]))),
  };
}

const start = (artifacts: Objects) =>
  startEdge({
    regions: [{ name: 'none', url: 'http://127.0.0.1:9' }],
    artifacts,
    onLog: () => undefined,
    inspectorPort: 0,
  });

async function explain({ url }: EdgeHandle, content: string): Promise<number | undefined> {
  const body = JSON.stringify({ model: 'auto', messages: [{ role: 'user', content }] });
  const headers = { 'content-type': 'application/json' };
  const answer = await fetch(`${url}/v1/route`, { method: 'POST', body, headers });
  return ((await answer.json()) as { classification: { threshold: number } | null }).classification?.threshold;
}

/** Asks until the router of this threshold is at work. @returns milliseconds, and the most bytes that were held meanwhile */
async function untilAtWork(edge: EdgeHandle, threshold: number | undefined, heap: IsolateHeap) {
  const begun = performance.now();
  for (let most = 0; performance.now() - begun < START_LIMIT_MS; ) {
    const found = await explain(edge, SHORT);
    most = Math.max(most, await heap.bytes());
    if (found !== undefined && (threshold === undefined || found === threshold))
      return { ms: performance.now() - begun, most };
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
  throw new Error(`the router is not at work: ${await (await fetch(`${edge.url}/health`)).text()}`);
}

async function medianMs(edge: EdgeHandle, content: string): Promise<number> {
  const times: number[] = [];
  for (let i = 0; i < RUNS; i++) {
    const begun = performance.now();
    await explain(edge, content);
    times.push(performance.now() - begun);
  }
  return median(times);
}

/** At rest; and at most, where so much was held beside shared memory, which only grows. */
async function held(heap: IsolateHeap, most: number): Promise<string> {
  const shared = await heap.sharedBytes();
  const resting = shared + (await heap.bytes());
  return `${(resting / MIB).toFixed(1)} MiB, at most ${((shared + most) / MIB).toFixed(1)} before`;
}

async function timesOf(edge: EdgeHandle): Promise<string> {
  return `${(await medianMs(edge, SHORT)).toFixed(1)} ms a request with a short prompt, ${(await medianMs(edge, LONG)).toFixed(1)} ms with a long one`;
}

const bundled = await start({});
const bundledHeap = await IsolateHeap.open(await bundled.inspector());
const { most } = await untilAtWork(bundled, undefined, bundledHeap);
console.log(`bundled router: ${await held(bundledHeap, most)}; ${await timesOf(bundled)}`);
bundledHeap.close();
await bundled.close();

const edge = await start(await objectsOf(folder, 0.11));
const heap = await IsolateHeap.open(await edge.inspector());
const first = await untilAtWork(edge, 0.11, heap);
console.log(
  `${folder}: at work after ${first.ms.toFixed(0)} ms, ${await held(heap, first.most)}; ${await timesOf(edge)}`,
);
for (const [key, value] of Object.entries(await objectsOf(folder, 0.12))) await edge.setArtifact(key, value);
const second = await untilAtWork(edge, 0.12, heap);
console.log(`after another like it: ${await held(heap, second.most)}`);
heap.close();
await edge.close();
