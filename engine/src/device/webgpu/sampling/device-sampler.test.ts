/**
 * Tokens chosen on the GPU against the sampler of the host.
 */
import fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import { scoreToken } from '../../../sampling/logprobs.ts';
import { type SamplingParams, samplingParams } from '../../../sampling/params.ts';
import { gumbel } from '../../../sampling/philox.ts';
import { Sampler, SamplingScratch } from '../../../sampling/sampler.ts';
import { type ChosenToken, MOST_ALTERNATIVES, MOST_STEPS, type TokenChoice } from '../../choice.ts';
import type { Gpu } from '../adapter.ts';
import { Downloads, UnderWay, USAGE } from '../buffers.ts';
import { Shaders, type Variants } from '../shader.ts';
import { openTestGpu } from '../testing.ts';
import { DeviceSampler } from './device-sampler.ts';

const gpu = await openTestGpu();
afterAll(() => gpu?.close());

const ROWS = 4;
const VIEW_WORDS = 16;
const PLACES = { tokens: 1, positions: 2 } as const;

/** A sampler over logits that stay what they are. */
class Bench {
  readonly sampler: DeviceSampler;
  readonly step: GPUBuffer;
  readonly #gpu: Gpu;
  readonly #logits: GPUBuffer;
  readonly #downloads: Downloads;
  readonly #cols: number;
  readonly #stride: number;

  constructor(on: Gpu, reduce: Variants['reduce'], lanes: number, cols: number) {
    this.#gpu = on;
    this.#cols = cols;
    this.#stride = Math.ceil(cols / 32) * 32;
    const usage = USAGE.storage | USAGE.copyTarget | USAGE.copySource;
    this.#logits = on.device.createBuffer({ size: ROWS * this.#stride * 4, usage });
    this.step = on.device.createBuffer({ size: 1024, usage });
    this.#downloads = new Downloads(on, new UnderWay(), []);
    this.sampler = new DeviceSampler(on, Shaders.of(on, { reduce, kv: 'f32' }), this.step, undefined, lanes);
  }

  async choose(
    rows: readonly Float32Array[],
    choices: readonly TokenChoice[],
    steps: number,
  ): Promise<ChosenToken[][]> {
    const { queue } = this.#gpu.device;
    for (const [row, values] of rows.entries()) queue.writeBuffer(this.#logits, row * this.#stride * 4, values);
    const words = new Uint32Array(256);
    for (const view of [0, 1]) {
      for (const [i, place] of Object.values(PLACES).entries()) {
        const begin = 2 * VIEW_WORDS + (2 * view + i) * ROWS;
        words[view * VIEW_WORDS + place] = begin;
        words.fill(100 * i, begin, begin + ROWS);
      }
    }
    queue.writeBuffer(this.step, 0, words);
    const x = { id: 0, buffer: this.#logits, cols: this.#cols, stride: this.#stride, capacity: ROWS };
    const run = this.sampler.begin(x, choices, steps);
    const encoder = this.#gpu.device.createCommandEncoder();
    const pass = encoder.beginComputePass();
    for (let step = 0; step < steps; step++) run.encode(pass);
    pass.end();
    const download = run.copy(encoder, this.#downloads);
    queue.submit([encoder.finish()]);
    return run.read(download);
  }

  /** Tokens or positions of a view as they are by now. */
  async stepWords(view: number, place: keyof typeof PLACES): Promise<number[]> {
    let words: number[] = [];
    const encoder = this.#gpu.device.createCommandEncoder();
    const download = this.#downloads.copy(encoder, this.step, 1024);
    this.#gpu.device.queue.submit([encoder.finish()]);
    await download.read((floats) => {
      const all = new Uint32Array(floats.buffer, floats.byteOffset, floats.length);
      const begin = all[view * VIEW_WORDS + PLACES[place]] ?? 0;
      words = [...all.subarray(begin, begin + ROWS)];
    });
    return words;
  }
}

const unless = <T>(usual: T, other: fc.Arbitrary<T>) => fc.oneof(fc.constant(usual), other);
const anyParams = (vocab: number): fc.Arbitrary<SamplingParams> =>
  fc.record({
    temperature: unless(0, fc.double({ min: 0.05, max: 2, noNaN: true })),
    topP: unless(
      1,
      fc.integer({ min: 1, max: 99 }).map((percent) => percent / 100 + 1e-5),
    ),
    topK: unless(0, fc.integer({ min: 1, max: vocab + 2 })),
    minP: unless(0, fc.double({ min: 0.01, max: 0.99, noNaN: true })),
    // Exact in 32 bits, so that penalties are.
    repetitionPenalty: unless(1, fc.constantFrom(0.5, 1.25, 2)),
    presencePenalty: unless(0, fc.constantFrom(-0.5, 0.75, 1.5)),
    frequencyPenalty: unless(0, fc.constantFrom(-0.25, 0.5, 1)),
    logitBias: fc.uniqueArray(fc.tuple(fc.nat(vocab - 1), fc.integer({ min: -100, max: 100 })), {
      maxLength: 3,
      selector: ([id]) => id,
    }),
    seed: fc.maxSafeInteger(),
    choice: fc.nat(3),
    minTokens: fc.nat(3),
  });
/** Values on a grid, many of them equal; and others. */
const logitRow = (vocab: number) =>
  fc.tuple(fc.boolean(), fc.nat(2 ** 31)).map(([isOnGrid, seed]) =>
    Float32Array.from({ length: vocab }, (_, id) => {
      const value = 2 * gumbel({ seed, choice: 0, place: 0 }, id);
      return isOnGrid ? Math.round(value * 4) / 4 : value;
    }),
  );

/** Two tokens may lie closer together than float32 tells apart: once in some hundred thousand draws, so never twice here. */
const MOST_MISSES = 1;

describe.skipIf(gpu === undefined).each([
  ['subgroups', 16],
  ['workgroup', 32],
] as const)('the GPU (together through %s, %i lanes)', (reduce, lanes) => {
  const isMissing = reduce === 'subgroups' && gpu?.features.subgroups === undefined;

  it.skipIf(isMissing).each([
    [29, 40],
    [4_500, 15],
  ])(
    'chooses what the host chooses of %i tokens, step after step, whatever else is in the batch',
    async (vocab, numRuns) => {
      if (gpu === undefined) return;
      const bench = new Bench(gpu, reduce, lanes, vocab);
      const scratch = new SamplingScratch(vocab);
      const tokens = fc.array(fc.nat(vocab - 2), { maxLength: 8 });
      const anyRow = fc.record({ params: anyParams(vocab), row: logitRow(vocab), prompt: tokens, generated: tokens });
      let misses = 0;
      await fc.assert(
        fc.asyncProperty(
          fc.array(anyRow, { minLength: 1, maxLength: ROWS }),
          fc.integer({ min: 1, max: 4 }),
          async (rows, steps) => {
            const samplers = rows.map(
              ({ params, ...context }) => new Sampler(params, scratch, { ...context, stopIds: [vocab - 1] }),
            );
            const choices = samplers.flatMap((sampler) => sampler.choice(undefined) ?? []);
            const logits = rows.map(({ row }) => row);
            const got = await bench.choose(logits, choices, steps);
            for (const [i, row] of logits.entries()) {
              const chosen = got[i]?.map(({ token }) => token) ?? [];
              const want = chosen.map(() => samplers[i]?.next(row));
              if (JSON.stringify(chosen) === JSON.stringify(want)) continue;
              misses++;
              expect(misses, `row ${i}: ${chosen}, the host chooses ${want}`).toBeLessThanOrEqual(MOST_MISSES);
            }
          },
        ),
        { numRuns },
      );
      bench.sampler.close();
    },
  );

  it.skipIf(isMissing)('scores a token and the likeliest ones in its place, before bias and penalties', async () => {
    if (gpu === undefined) return;
    const vocab = 2_500;
    const bench = new Bench(gpu, reduce, lanes, vocab);
    await fc.assert(
      fc.asyncProperty(
        logitRow(vocab),
        fc.nat(MOST_ALTERNATIVES),
        fc.maxSafeInteger(),
        async (row, alternatives, seed) => {
          const params = samplingParams({ seed, logitBias: [[3, 9]] });
          const sampler = new Sampler(params, new SamplingScratch(vocab), { prompt: [], generated: [], stopIds: [] });
          const choice = sampler.choice(alternatives);
          if (choice === undefined) throw new Error('nothing follows each token');
          const [[chosen] = []] = await bench.choose([row], [choice], 1);
          const want = scoreToken(row, chosen?.token ?? -1, alternatives);
          expect(chosen?.score?.logprob).toBeCloseTo(want.logprob, 4);
          expect(chosen?.score?.top.map(({ id }) => id)).toEqual(want.top.map(({ id }) => id));
          for (const [i, { logprob }] of want.top.entries())
            expect(chosen?.score?.top[i]?.logprob).toBeCloseTo(logprob, 4);
        },
      ),
      { numRuns: 6 },
    );
    bench.sampler.close();
  });

  it.skipIf(isMissing)(
    'puts a token where the next step finds it, one position on, and the last one nowhere',
    async () => {
      if (gpu === undefined) return;
      const vocab = 100;
      const bench = new Bench(gpu, reduce, lanes, vocab);
      const rows = [0, 1].map((seed) => Float32Array.from({ length: vocab }, (_, id) => (id * (7 + seed)) % 31));
      const choices = rows.map((_, seed) => ({
        params: samplingParams({ seed }),
        place: 0,
        edits: [],
        alternatives: undefined,
      }));
      const chosen = await bench.choose(rows, choices, 3);
      for (const view of [0, 1]) {
        expect(await bench.stepWords(view, 'tokens')).toEqual([chosen[0]?.[1]?.token, chosen[1]?.[1]?.token, 0, 0]);
        expect(await bench.stepWords(view, 'positions')).toEqual([102, 102, 100, 100]);
      }
      bench.sampler.close();
    },
  );
});

it.skipIf(gpu === undefined)('chooses of a whole vocabulary, with as many lanes as hardware has', async () => {
  if (gpu === undefined) return;
  const vocab = 49_152;
  const bench = new Bench(gpu, gpu.features.subgroups === undefined ? 'workgroup' : 'subgroups', 256, vocab);
  const row = Float32Array.from({ length: vocab }, (_, id) => 2 * gumbel({ seed: 8, choice: 0, place: 0 }, id));
  const context = { prompt: [], generated: [], stopIds: [] };
  const samplers = [{}, { topK: 50, topP: 0.9 }, { topP: 0.999 }, { minP: 0.001 }].map(
    (params) => new Sampler(samplingParams({ seed: 2, ...params }), new SamplingScratch(vocab), context),
  );
  const choices = samplers.flatMap((sampler) => sampler.choice(undefined) ?? []);
  const chosen = await bench.choose(Array(ROWS).fill(row), choices, 1);
  expect(chosen.map(([first]) => first?.token)).toEqual(samplers.map((sampler) => sampler.next(row)));
  bench.sampler.close();
});

it.skipIf(gpu === undefined)('refuses more than there is room for', async () => {
  if (gpu === undefined) return;
  const bench = new Bench(gpu, 'workgroup', 4, 10);
  const choice = { params: samplingParams({}), place: 0, edits: [], alternatives: undefined };
  const row = new Float32Array(10);
  await expect(bench.choose([row], [choice], MOST_STEPS + 1)).rejects.toThrow(/33 steps at once, there is room for 32/);
  await expect(bench.choose([row], Array(ROWS + 1).fill(choice), 1)).rejects.toThrow(/5 rows, there are logits for 4/);
  await expect(bench.choose([row], [{ ...choice, alternatives: 21 }], 1)).rejects.toThrow(/wants 21 alternatives/);
});
