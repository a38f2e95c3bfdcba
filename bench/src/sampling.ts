/**
 * What choosing a token costs, by vocabulary: each way of sampling beside a plain argmax, and beside sorting the vocabulary; and a schema's masks, when
 * an answer first comes to them and afterwards. Run: `npx tsx bench/src/sampling.ts`.
 *
 * Cases take turns within a round; medians over rounds are printed.
 */
import { join } from 'node:path';
import { argmax, Grammars, Sampler, type SamplingParams, SamplingScratch, samplingParams } from '@signpost/engine';

const ROUNDS = 41;
const VOCABULARIES = [49_152, 151_936];
const BASE = join(import.meta.dirname, '../../models/demo/base');

const CASES: Readonly<Record<string, Partial<SamplingParams>>> = {
  greedy: { temperature: 0 },
  'temperature 1': {},
  'top_k 50': { topK: 50 },
  'top_p 0.9': { topP: 0.9 },
  'min_p 0.05': { minP: 0.05 },
  'top_k 50, top_p 0.9': { topK: 50, topP: 0.9 },
  'all penalties': { repetitionPenalty: 1.1, presencePenalty: 0.5, frequencyPenalty: 0.5, topP: 0.9 },
};

const median = (values: readonly number[]) => [...values].sort((a, b) => a - b)[values.length >> 1] ?? Number.NaN;
const timed = (run: () => unknown) => {
  const started = performance.now();
  run();
  return performance.now() - started;
};

/** As a trained model's: most tokens far below the few that fit. Box and Muller's normal, with a heavy upper tail. */
function logitsOf(size: number): Float32Array {
  return Float32Array.from({ length: size }, () => {
    const normal = Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random());
    return 2.5 * normal + (Math.random() < 0.001 ? 8 : 0);
  });
}

for (const size of VOCABULARIES) {
  const scratch = new SamplingScratch(size);
  const rows = Array.from({ length: 8 }, () => logitsOf(size));
  const context = { prompt: Array.from({ length: 200 }, (_, i) => i * 7), generated: [], stopIds: [] };
  const samplers = Object.entries(CASES).map(([name, params], seed) => ({
    name,
    sampler: new Sampler(samplingParams({ ...params, seed }), scratch, context),
    ms: [] as number[],
  }));
  const others = { argmax: [] as number[], 'sorting all': [] as number[] };
  for (let round = 0; round < ROUNDS; round++) {
    const row = rows[round % rows.length] ?? new Float32Array(size);
    others.argmax.push(timed(() => argmax(row)));
    others['sorting all'].push(timed(() => row.slice().sort()));
    for (const { sampler, ms } of samplers) ms.push(timed(() => sampler.next(row)));
  }
  const base = median(others.argmax);
  console.log(`\n${size} tokens`);
  for (const [name, ms] of [...Object.entries(others), ...samplers.map(({ name, ms }) => [name, ms] as const)])
    console.log(`  ${name.padEnd(20)} ${median(ms).toFixed(3)} ms  ${(median(ms) / base).toFixed(1)}× argmax`);
}

const schema = {
  type: 'object',
  properties: {
    name: { type: 'string' },
    age: { type: 'integer' },
    tags: { type: 'array', items: { enum: ['a', 'b'] } },
  },
  required: ['name', 'age', 'tags'],
};
const grammars = await Grammars.load(BASE, 4_096);
const sampler = () =>
  new Sampler(samplingParams({ seed: 1, logitBias: [[0, 20]] }), new SamplingScratch(4_096), {
    prompt: [],
    generated: [],
    stopIds: [0],
    constraint: grammars.constraint({ kind: 'schema', schema }, [0]),
  });
const flat = new Float32Array(4_096);
function answer(): { compileMs: number; tokens: number; ms: number } {
  const started = performance.now();
  const chosen = sampler();
  const compileMs = performance.now() - started;
  let tokens = 0;
  const ms = timed(() => {
    while (tokens++ < 200 && chosen.next(flat) !== 0);
  });
  return { compileMs, tokens, ms };
}
const first = answer();
const later = Array.from({ length: ROUNDS }, answer);
console.log(
  `\na schema over the demo's 4096 tokens: ready in ${first.compileMs.toFixed(1)} ms; its first answer ${(first.ms / first.tokens).toFixed(3)} ms a token,`,
);
console.log(`  later ones ${median(later.map(({ ms, tokens }) => ms / tokens)).toFixed(3)} ms a token`);
