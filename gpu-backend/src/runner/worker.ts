/**
 * The engine's worker thread: binds the loop to the thread's port. Thin; see engine-loop.ts.
 */
import { once } from 'node:events';
import { getPriority, setPriority } from 'node:os';
import { parentPort, workerData } from 'node:worker_threads';
import { Grammars, Model, openCheckpoint } from '@signpost/engine';
import { DiskCache } from '../experts/disk-cache.ts';
import { FetchThread } from '../experts/fetch-thread.ts';
import { Paging } from '../experts/paging.ts';
import { BlockManager } from '../schedule/block-manager.ts';
import { Scheduler } from '../schedule/scheduler.ts';
import { MAX_CHUNKS } from './early-prefill.ts';
import { EngineLoop } from './engine-loop.ts';
import { serialise } from './errors.ts';
import type { EngineCall, EngineCalls, EngineOptions, FromWorker, ToWorker } from './protocol.ts';

/** How much nicer than the HTTP thread this one is, and with it the kernels' threads, which inherit it: a health check doesn't wait for a core. */
const NICENESS = 5;
const MOST_NICE = 19;

const port = parentPort;
if (port === null) throw new Error('this file runs as a worker thread');
const options = workerData as EngineOptions;
const send = (message: FromWorker) => port.postMessage(message);

const { blockTokens, diskCache, hostCacheBytes } = options;
// Not as nice as this thread: transfers go on while it computes.
const fetching = new FetchThread({ store: options.store, disk: diskCache?.dir });
const onProblem = (problem: string) => send({ kind: 'problem', problem });
const disk =
  diskCache === undefined
    ? undefined
    : await DiskCache.open(diskCache.dir, diskCache.bytes, onProblem, (version, reading) =>
        fetching.read('disk', version, reading),
      );
// On Linux this is the thread's; where it is the process's, nobody is before anybody.
setPriority(Math.min(MOST_NICE, getPriority() + NICENESS));

const blocks = new BlockManager(Math.ceil(options.kvTokens / blockTokens), blockTokens);
const maxLogitRows = options.maxSequences;
const started = performance.now();
let told = 0;

/** Tells every tenth of the way, so that a log shows that a large base is on its way. */
function tellProgress(bytes: number, totalBytes: number): void {
  const tenths = Math.floor((10 * bytes) / totalBytes);
  if (tenths === told) return;
  told = tenths;
  send({ kind: 'loading', bytes, totalBytes });
}
// Who started this thread may have begun to hash the base before there was one.
const digest = once(port, 'message').then(([message]: ToWorker[]) =>
  message?.kind === 'base' ? message.digest : undefined,
);
const model = await Model.load(await openCheckpoint(options.base, digest), {
  device: options.device,
  gpu: options.gpu,
  weights: options.weights,
  residence: 'files',
  onProgress: tellProgress,
  slots: options.slots,
  kvBlocks: blocks.blocks,
  blockTokens,
  maxRows: options.maxStepTokens,
  maxLogitRows,
  maxArriving: MAX_CHUNKS,
});
// Before anyone is let in: no request waits for a compiler.
await model.warmUp((compiled, total) => {
  if (compiled === total || Math.floor((4 * compiled) / total) > Math.floor((4 * (compiled - 1)) / total))
    send({ kind: 'compiling', compiled, total });
});
// A thread without its device has nothing to live for: its end fails what is in flight, and liveness.
void model.lost?.then(async (why) => {
  await model.close();
  throw new Error(why);
});
const paging = new Paging({
  slots: options.slots,
  store: { url: options.store, read: (version, reading) => fetching.read('store', version, reading) },
  model,
  hostCacheBytes,
  disk,
  onProblem,
  onChange: () => send({ kind: 'residency' }),
});
const loop = new EngineLoop({
  model,
  blocks,
  scheduler: new Scheduler(blocks, { ...options, maxLogitRows }),
  residency: paging.residency,
  grammars: await Grammars.load(options.base, model.config.vocabSize),
  emit: (events, step) => send(step === undefined ? { kind: 'events', events } : { kind: 'events', events, step }),
});

async function answer(call: EngineCall): Promise<EngineCalls[keyof EngineCalls]['answer']> {
  switch (call.name) {
    case 'stats':
      return { ...loop.stats(), ...paging.state };
    case 'usage':
      return call.ask.map((digest) => paging.usage(digest));
    case 'load': {
      const asked = performance.now();
      await paging.load(call.ask.version, call.ask.timeoutMs);
      return { ms: Math.round(performance.now() - asked) };
    }
    case 'evict':
      return paging.evict(call.ask);
    default:
      return call satisfies never;
  }
}

port.on('message', (message: ToWorker) => {
  switch (message.kind) {
    case 'base':
      return;
    case 'submit':
      void loop.submit(message.request);
      return;
    case 'abort':
      loop.abort(message.id);
      return;
    case 'call':
      answer(message).then(
        (value) => send({ kind: 'answer', call: message.call, answer: value }),
        (error: unknown) => send({ kind: 'refusal', call: message.call, error: serialise(error) }),
      );
      return;
    case 'keep':
      paging.prefetcher.keep(message.standing);
      return;
    case 'hint':
      paging.prefetcher.hint(message.versions);
      return;
    case 'close':
      // Of this thread only.
      void model.close().then(() => process.exit(0));
      return;
    default:
      message satisfies never;
  }
});
send({
  kind: 'ready',
  facts: {
    base: model.base,
    weightBytes: model.weightBytes,
    deviceBytes: model.deviceBytes,
    loadMs: Math.round(performance.now() - started),
    vocabSize: model.config.vocabSize,
    maxPositions: model.config.maxPositions,
    kvTokens: blocks.capacity,
  },
});
// Nothing waits for it. Should a file have been written to, this thread ends of it, and with it liveness: nobody knows what it computes.
const unsettledBytes = await model.settle();
if (unsettledBytes > 0)
  send({
    kind: 'problem',
    problem: `${unsettledBytes} bytes of the base have no memory of their own and are computed from in its files; give this region more memory`,
  });
