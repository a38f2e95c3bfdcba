/**
 * The engine's speed on the 360M shape with random weights: decode and prefill in each weight format, as a share of the machine's read bandwidth, of
 * llama.cpp's speed, and of the base's own; experts alone and eight in one batch.
 *
 * Run: `npx tsx bench/src/engine.ts [--peer DIR] [--rounds N]`. DIR (or SIGNPOST_PEER) is a folder in which `npm i node-llama-cpp@3.22` was run;
 * without it there are no figures of llama.cpp. All take turns within a round, ratios are taken within a round, medians over rounds are printed.
 */
import type { ChildProcess } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { Model, openCheckpoint, openDelta, type StepBatch, type WeightFormat } from '@signpost/engine';
import { instructionSets, largeMemory, sumWords, threads } from '@signpost/kernels';
import { askPeer, type PeerAnswer, startPeer } from './peer.ts';
import { SHAPE_360M, writeRandomCheckpoint } from './random-checkpoint.ts';
import { randomExpert } from './random-expert.ts';

const { values: flags } = parseArgs({
  options: { peer: { type: 'string' }, rounds: { type: 'string', default: '5' } },
});
const PEER = flags.peer ?? process.env.SIGNPOST_PEER;
const ROUNDS = Number(flags.rounds);
const EXPERTS = 8;
const PREFILL_TOKENS = 256;
const DECODE_TOKENS = 16;
const BATCH_STEPS = 4;
const PEER_TURN_TOKENS = 2;
const BLOCK_TOKENS = 16;
/** Of each sequence: the prompt and what follows. */
const BLOCKS = (PREFILL_TOKENS + 64) / BLOCK_TOKENS;
const READ_BYTES = 512 * 2 ** 20;
const FORMATS = ['bf16', 'q8', 'q4'] as const satisfies WeightFormat[];

/** `rows` of each sequence from `position` on; sequence s uses slot s when `slots` says so. */
function stepOf(sequences: number, rows: number, position: number, slots: 'base' | 'experts'): StepBatch {
  const total = sequences * rows;
  const terms = slots === 'base' ? 0 : total;
  return {
    tokens: Int32Array.from({ length: total }, (_, i) => 300 + ((i * 7) % 30_000)),
    positions: Int32Array.from({ length: total }, (_, i) => position + (i % rows)),
    sequenceStart: Int32Array.from({ length: sequences + 1 }, (_, s) => s * rows),
    blockTable: Int32Array.from({ length: sequences * BLOCKS }, (_, block) => block),
    blocksPerSequence: BLOCKS,
    mixtureStart: Int32Array.from({ length: total + 1 }, (_, row) => Math.min(row, terms)),
    mixtureSlots: Int32Array.from({ length: terms }, (_, row) => Math.floor(row / rows)),
    mixtureWeights: new Float32Array(terms).fill(1),
    logitRows: Int32Array.from({ length: sequences }, (_, s) => (s + 1) * rows - 1),
  };
}

/** Rows a second over `steps` steps. */
async function rate(model: Model, steps: number, batch: (step: number) => StepBatch): Promise<number> {
  const batches = Array.from({ length: steps }, (_, step) => batch(step));
  const start = performance.now();
  for (const one of batches) await model.forward(one);
  const seconds = (performance.now() - start) / 1e3;
  return batches.reduce((sum, { tokens }) => sum + tokens.length, 0) / seconds;
}

/** A step's bytes a second as a share of what reading alone reaches just before it: both change from one moment to the next. */
async function readShare(model: Model, bytes: number, memory: Uint8Array): Promise<number> {
  const shares: number[] = [];
  for (let step = 0; step < DECODE_TOKENS; step++) {
    const readSeconds = readAll(memory);
    const tokens = await rate(model, 1, () => stepOf(1, 1, PREFILL_TOKENS + step, 'base'));
    shares.push(tokens * bytes * (readSeconds / READ_BYTES));
  }
  return median(shares);
}

/** Seconds. */
function readAll(memory: Uint8Array): number {
  const start = performance.now();
  sumWords(memory);
  return (performance.now() - start) / 1e3;
}

/** What a step of one stream reads: all weights but the embedding, which is looked up, and the keys and values of what came before. */
function stepBytes(model: Model, format: WeightFormat): number {
  const { hidden, vocabSize, layers, kvHeads, headDim } = model.config;
  const embedding = hidden * vocabSize * (format === 'bf16' ? 2 : 34 / 32);
  return (
    model.weightBytes - embedding + PREFILL_TOKENS * layers * kvHeads * headDim * 2 * Float32Array.BYTES_PER_ELEMENT
  );
}

/** Of sequences on experts, of as many on the base: a step of the one and a step of the other by turns. */
async function expertShare(model: Model, sequences: number, steps: number): Promise<number> {
  const shares: number[] = [];
  for (let step = 0; step < steps; step++) {
    const of = (slots: 'base' | 'experts') => rate(model, 1, () => stepOf(sequences, 1, PREFILL_TOKENS + step, slots));
    const base = await of('base');
    shares.push((await of('experts')) / base);
  }
  return median(shares);
}

interface Figures {
  readonly share: number;
  readonly prefill: number;
  readonly expertPrefill: number;
  readonly decode: number;
  readonly expertDecode: number; // of the base's
  readonly batch: number;
  readonly expertBatch: number;
  readonly expertBatchShare: number; // of the base's
}

async function measure(model: Model, bytes: number, memory: Uint8Array): Promise<Figures> {
  const prefill = (slots: 'base' | 'experts') => rate(model, 1, () => stepOf(1, PREFILL_TOKENS, 0, slots));
  const decode = (sequences: number, steps: number, slots: 'base' | 'experts') =>
    rate(model, steps, (step) => stepOf(sequences, 1, PREFILL_TOKENS + step, slots));
  return {
    share: await readShare(model, bytes, memory),
    prefill: await prefill('base'),
    expertPrefill: await prefill('experts'),
    decode: await decode(1, DECODE_TOKENS, 'base'),
    expertDecode: await expertShare(model, 1, DECODE_TOKENS),
    batch: await decode(EXPERTS, BATCH_STEPS, 'base'),
    expertBatch: await decode(EXPERTS, BATCH_STEPS, 'experts'),
    expertBatchShare: await expertShare(model, EXPERTS, BATCH_STEPS),
  };
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1] ?? Number.NaN;
}
const ratios = (above: readonly number[], below: readonly number[]) =>
  median(above.map((value, round) => value / (below[round] ?? Number.NaN)));

const folder = await mkdtemp(join(tmpdir(), 'signpost-engine-'));
let peer: ChildProcess | undefined;
try {
  await writeRandomCheckpoint(folder, SHAPE_360M);
  const models = new Map<WeightFormat, Model>();
  console.log(`${instructionSets()[0]}, ${threads()} threads, ${ROUNDS} rounds, medians; 360M shape, random weights`);
  for (const weights of FORMATS) {
    const start = performance.now();
    const model = await Model.load(await openCheckpoint(folder), {
      device: 'cpu',
      weights,
      slots: EXPERTS,
      kvBlocks: EXPERTS * BLOCKS,
      blockTokens: BLOCK_TOKENS,
      maxRows: PREFILL_TOKENS,
      maxLogitRows: EXPERTS,
    });
    const ms = Math.round(performance.now() - start);
    models.set(weights, model);
    const megabytes = (bytes: number) => `${(bytes / 1e6).toFixed(0)} MB`;
    console.log(`${weights}: ${megabytes(model.weightBytes)} resident after ${ms} ms`);
    for (let slot = 0; slot < EXPERTS; slot++) {
      const expert = openDelta(randomExpert(model.base, model.params, slot + 1), `random expert ${slot + 1}`);
      model.loadExpert(slot, expert);
      const base = models.get('bf16')?.weightBytes ?? Number.NaN;
      if (slot === 0 && weights === 'bf16')
        console.log(`an expert: ${megabytes(expert.bytes)}, 1/${(base / expert.bytes).toFixed(1)} of the base in BF16`);
    }
  }
  if (PEER !== undefined) peer = await startPeer(PEER, folder, { bf16: 'BF16', q8: 'Q8_0' });
  const memory = new Uint8Array(largeMemory(READ_BYTES)).fill(1);
  const bandwidths: number[] = [];
  const ours = new Map<WeightFormat, Figures[]>(FORMATS.map((format) => [format, []]));
  const theirs = new Map<WeightFormat, PeerAnswer[]>([
    ['bf16', []],
    ['q8', []],
  ]);
  const turns: number[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    bandwidths.push(READ_BYTES / readAll(memory));
    for (const [format, model] of models) {
      ours.get(format)?.push(await measure(model, stepBytes(model, format), memory));
      const answers = theirs.get(format);
      if (peer !== undefined && answers !== undefined)
        answers.push(await askPeer(peer, { model: format, kind: 'one', tokens: DECODE_TOKENS }));
    }
    if (peer !== undefined) {
      const question = { model: 'bf16', kind: 'turns', tokens: PEER_TURN_TOKENS, models: EXPERTS };
      turns.push((await askPeer(peer, question)).decode);
    }
  }
  console.log(`read bandwidth ${(median(bandwidths) / 1e9).toFixed(1)} GB/s`);
  for (const [format, model] of models) {
    const figures = ours.get(format) ?? [];
    const of = (name: keyof Figures) => figures.map((figure) => figure[name]);
    const decode = median(of('decode'));
    console.log(`\n${format}`);
    console.log(
      `  decode      ${decode.toFixed(1)} tok/s, ${((decode * stepBytes(model, format)) / 1e9).toFixed(1)} GB/s, ${median(of('share')).toFixed(2)} of read bandwidth`,
    );
    console.log(`  prefill     ${median(of('prefill')).toFixed(0)} tok/s of ${PREFILL_TOKENS}`);
    console.log(
      `  one expert  ${median(of('expertDecode')).toFixed(3)} × the base's decode, ${ratios(of('expertPrefill'), of('prefill')).toFixed(3)} × its prefill`,
    );
    console.log(
      `  8 sequences ${median(of('batch')).toFixed(1)} tok/s on the base; of 8 experts ${median(of('expertBatch')).toFixed(1)}, ${median(of('expertBatchShare')).toFixed(3)} ×`,
    );
    const answers = theirs.get(format) ?? [];
    if (answers.length > 0) {
      const [theirDecode, theirPrefill] = [answers.map((one) => one.decode), answers.map((one) => one.prefill)];
      console.log(
        `  llama.cpp   decode ${median(theirDecode).toFixed(1)} tok/s, ours ${ratios(of('decode'), theirDecode).toFixed(2)} ×; prefill ${median(theirPrefill).toFixed(0)} tok/s, ours ${ratios(of('prefill'), theirPrefill).toFixed(2)} ×`,
      );
    }
    if (format === 'bf16' && turns.length > 0)
      console.log(
        `  8 llama.cpp models in turn ${median(turns).toFixed(1)} tok/s; our 8 experts ${ratios(of('expertBatch'), turns).toFixed(2)} ×`,
      );
  }
} finally {
  peer?.kill();
  await rm(folder, { recursive: true });
}
