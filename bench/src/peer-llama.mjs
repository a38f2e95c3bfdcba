// llama.cpp in a process of its own, asked over IPC. Arguments: the folder that node-llama-cpp is installed in, threads, and models by name as JSON.
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

const [dir, threads, models] = process.argv.slice(2);
const PREFILL_TOKENS = 256;
const { getLlama } = await import(pathToFileURL(join(dir, 'node_modules/node-llama-cpp/dist/index.js')).href);
const llama = await getLlama({
  gpu: false,
  build: 'never',
  progressLogs: false,
  logLevel: 'error',
  maxThreads: Number(threads),
});
const prompt = Array.from({ length: PREFILL_TOKENS }, (_, i) => 300 + ((i * 7) % 30_000));

async function open(modelPath) {
  return contextOf(await llama.loadModel({ modelPath, useMmap: true }));
}

async function contextOf(model) {
  const context = await model.createContext({ contextSize: 1024, threads: Number(threads), batchSize: 512 });
  return context.getSequence();
}

async function decode(sequence, count) {
  let left = count;
  for await (const _ of sequence.evaluate([777], { temperature: 0, yieldEogToken: true })) if (--left <= 0) break;
}

async function seconds(task) {
  const start = performance.now();
  await task();
  return (performance.now() - start) / 1e3;
}

const single = new Map();
for (const [name, path] of Object.entries(JSON.parse(models))) single.set(name, { path, sequence: await open(path) });
const turns = [];

process.on('message', async ({ model, kind, tokens, models: count, useMmap }) => {
  const { path, sequence } = single.get(model);
  if (kind === 'one') {
    await sequence.clearHistory();
    const prefill = PREFILL_TOKENS / (await seconds(() => sequence.evaluateWithoutGeneratingNewTokens(prompt)));
    const decoded = tokens / (await seconds(() => decode(sequence, tokens)));
    process.send({ prefill, decode: decoded, loadMs: 0, firstAnswerMs: 0 });
    return;
  }
  if (kind === 'load') {
    // The file is in the page cache: it is open already.
    let loaded;
    let sequence;
    const short = prompt.slice(0, tokens);
    const answer = async () => {
      await sequence.evaluateWithoutGeneratingNewTokens(short);
      await decode(sequence, 1);
    };
    const load = await seconds(async () => {
      loaded = await llama.loadModel({ modelPath: path, useMmap });
    });
    const first = await seconds(async () => {
      sequence = await contextOf(loaded);
      await answer();
    });
    await sequence.clearHistory();
    const again = await seconds(answer);
    await loaded.dispose();
    process.send({ prefill: 0, decode: 0, loadMs: 1e3 * load, firstAnswerMs: 1e3 * (load + first - again) });
    return;
  }
  while (turns.length < count) turns.push(await open(path));
  for (const one of turns) {
    await one.clearHistory();
    await one.evaluateWithoutGeneratingNewTokens(prompt);
  }
  const taken = await seconds(async () => {
    for (const one of turns) await decode(one, tokens);
  });
  process.send({ prefill: 0, decode: (count * tokens) / taken, loadMs: 0, firstAnswerMs: 0 });
});
process.send({ ready: true });
