/**
 * What is set aside on a GPU at the start is what is announced, and all that steps make use of.
 */
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openCheckpoint } from '../checkpoint/checkpoint.ts';
import type { StepBatch } from '../device/device.ts';
import { openTestGpu } from '../device/webgpu/testing.ts';
import { type SamplingParams, samplingParams } from '../sampling/params.ts';
import { Sampler, SamplingScratch } from '../sampling/sampler.ts';
import { Model } from './model.ts';

const gpu = await openTestGpu();
afterAll(() => gpu?.close());

const BASE = join(import.meta.dirname, '../../../test/golden/models/llama');
const BLOCK_TOKENS = 8;
const BLOCKS_EACH = 6;
const SEQUENCES = 12;

/** What is made on the GPU and not gone yet, and how often anything was made. */
class Watch {
  readonly made: string[] = [];
  readonly #sizes = new Map<object, number>();
  readonly #restore: (() => void)[] = [];

  constructor(device: GPUDevice) {
    const buffer = device.createBuffer({ size: 4, usage: 8 });
    const buffers = Object.getPrototypeOf(buffer);
    const devices = Object.getPrototypeOf(device);
    buffer.destroy();
    this.#wrap(buffers, 'destroy', (_, target) => this.#sizes.delete(target));
    this.#wrap(devices, 'createBuffer', (created: GPUBuffer) => this.#sizes.set(created, created.size));
    for (const name of ['createBindGroup', 'createComputePipeline', 'createComputePipelineAsync', 'createShaderModule'])
      this.#wrap(devices, name, () => {});
  }

  get bytes(): number {
    return [...this.#sizes.values()].reduce((sum, size) => sum + size, 0);
  }

  end(): void {
    for (const restore of this.#restore) restore();
  }

  #wrap(prototype: Record<string, unknown>, name: string, note: (result: GPUBuffer, target: object) => void): void {
    const before = prototype[name] as (...args: unknown[]) => GPUBuffer;
    const { made } = this;
    prototype[name] = function (this: object, ...args: unknown[]) {
      const result = before.apply(this, args);
      if (name !== 'destroy') made.push(name);
      note(result, this);
      return result;
    };
    this.#restore.push(() => {
      prototype[name] = before;
    });
  }
}

const WAYS: readonly Partial<SamplingParams>[] = [
  { temperature: 0 },
  { temperature: 1 },
  { topK: 20 },
  { topP: 0.8, repetitionPenalty: 1.2 },
  { temperature: 0, frequencyPenalty: 0.5, logitBias: [[5, 2]] },
];

describe.skipIf(gpu === undefined)('a warm model on a GPU', () => {
  let watch: Watch;
  let model: Model;
  const progress: (readonly [number, number])[] = [];
  beforeAll(async () => {
    if (gpu === undefined) return;
    watch = new Watch(gpu.device);
    model = await Model.load(await openCheckpoint(BASE), {
      device: 'webgpu',
      gpu: { shared: gpu },
      slots: 2,
      kvBlocks: SEQUENCES * BLOCKS_EACH,
      blockTokens: BLOCK_TOKENS,
      maxRows: 48,
      maxLogitRows: SEQUENCES,
      maxArriving: 2,
    });
    await model.warmUp((compiled, total) => progress.push([compiled, total]));
  }, 120_000);
  afterAll(() => watch?.end());

  it('has told of every kernel, and taken exactly the memory that it announced', () => {
    const total = progress.length;
    expect(total).toBeGreaterThan(15);
    expect(progress).toEqual(Array.from({ length: total }, (_, i) => [i + 1, total]));
    expect(watch.bytes).toBe(model.deviceBytes);
  });

  it('makes nothing more, whatever prompts and answers there are, and gives all of it back', async () => {
    const before = watch.made.length;
    const signal = new AbortController().signal;
    for (const [round, params] of WAYS.entries()) {
      // Prompts of unlike lengths; then answers, of 1, 2, 3, 5, 9 and 12 sequences.
      for (const sequences of [1, 2, 3, 5, 9, SEQUENCES].filter((count) => count % 3 !== round % 3)) {
        const lengths = Array.from({ length: sequences }, (_, s) => 1 + ((s + round) % 4));
        const samplers = samplersOf(sequences, params);
        const alternatives = round % 2 === 0 ? 3 : undefined;
        const choices = () => samplers.flatMap((sampler) => sampler.choice(alternatives) ?? []);
        await model.generate?.(batchOf(lengths, 0), choices(), 1);
        const ones = lengths.map(() => 1);
        await model.generate?.(batchOf(ones, 4), choices(), 1);
        await model.generate?.(batchOf(ones, 5), choices(), 3);
        await model.forward(batchOf(ones, 8));
      }
    }
    await model.forward({ ...batchOf([46], 0), logitRows: new Int32Array(0) });
    expect(watch.made.slice(before)).toEqual([]);
    // A layer at a time is another list of ops: kernels are there, what they bind is made.
    await model.forwardArriving([batchOf([20], 0), batchOf([3], 20)], signal);
    expect(watch.made.slice(before).filter((name) => /Pipeline|Shader/.test(name))).toEqual([]);
    expect(watch.bytes).toBeGreaterThan(0);
    await model.close();
    expect(watch.bytes).toBe(0);
  }, 120_000);

  function samplersOf(count: number, params: Partial<SamplingParams>): Sampler[] {
    const scratch = new SamplingScratch(model.logitWidth);
    const context = { prompt: [1, 2, 3, 2], generated: [], stopIds: [] };
    return Array.from(
      { length: count },
      (_, seed) => new Sampler(samplingParams({ seed, ...params }), scratch, context),
    );
  }
});

/** Rows of each sequence from `past` on, the last one's logits wanted. */
function batchOf(rows: readonly number[], past: number): StepBatch {
  const ends = rows.map((_, s) => rows.slice(0, s + 1).reduce((sum, count) => sum + count, 0));
  const total = ends.at(-1) ?? 0;
  return {
    tokens: Int32Array.from({ length: total }, (_, i) => 3 + i),
    positions: Int32Array.from(rows.flatMap((count) => Array.from({ length: count }, (_, i) => past + i))),
    sequenceStart: Int32Array.of(0, ...ends),
    blockTable: Int32Array.from({ length: rows.length * BLOCKS_EACH }, (_, block) => block),
    blocksPerSequence: BLOCKS_EACH,
    mixtureStart: new Int32Array(total + 1),
    mixtureSlots: new Int32Array(0),
    mixtureWeights: new Float32Array(0),
    logitRows: Int32Array.from(ends, (end) => end - 1),
    ahead: 2,
  };
}
