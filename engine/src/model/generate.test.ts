/**
 * Answers whose tokens the GPU chooses and feeds back, several steps a reading, against logits and the sampler of the host.
 */
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openCheckpoint } from '../checkpoint/checkpoint.ts';
import type { StepBatch } from '../device/device.ts';
import type { DeviceName } from '../device/index.ts';
import { openTestGpu } from '../device/webgpu/testing.ts';
import { type SamplingParams, samplingParams } from '../sampling/params.ts';
import { Sampler, SamplingScratch } from '../sampling/sampler.ts';
import { Model } from './model.ts';

const BASE = join(import.meta.dirname, '../../../test/golden/merge/base');
const BLOCK_TOKENS = 4;
const BLOCKS_EACH = 8;
const STEPS = 6;

const ANSWERS: readonly { readonly prompt: readonly number[]; readonly params: Partial<SamplingParams> }[] = [
  { prompt: [5, 6, 7], params: { temperature: 0 } },
  { prompt: [20, 30, 40, 50, 60], params: { seed: 7 } },
  { prompt: [9], params: { seed: 3, temperature: 0.7, topK: 20, topP: 0.9 } },
  {
    prompt: [11, 12, 11, 12],
    params: { seed: 5, repetitionPenalty: 1.25, presencePenalty: 0.5, frequencyPenalty: 0.5, logitBias: [[13, 2]] },
  },
];

const gpu = await openTestGpu();
const models = new Map<DeviceName, Model>();
beforeAll(async () => {
  if (gpu === undefined) return;
  for (const device of ['webgpu', 'cpu'] as const) {
    const sizes = {
      slots: 1,
      kvBlocks: ANSWERS.length * BLOCKS_EACH,
      blockTokens: BLOCK_TOKENS,
      maxRows: 16,
      maxLogitRows: 8,
    };
    models.set(device, await Model.load(await openCheckpoint(BASE), { device, gpu: { shared: gpu }, ...sizes }));
  }
});
afterAll(async () => {
  for (const model of models.values()) await model.close();
  gpu?.close();
});

function modelOn(device: DeviceName): Model {
  const model = models.get(device);
  if (model === undefined) throw new Error(`no model on ${device}`);
  return model;
}

/** Rows `from` … of each sequence, the last one's logits wanted. */
function batchOf(sequences: readonly (readonly number[])[], from: readonly number[], ahead: number): StepBatch {
  const rows = sequences.flatMap((tokens, s) =>
    tokens.slice(from[s]).map((token, i) => [token, (from[s] ?? 0) + i] as const),
  );
  const ends = sequences.map((_, s) =>
    sequences.slice(0, s + 1).reduce((sum, own, i) => sum + own.length - (from[i] ?? 0), 0),
  );
  return {
    tokens: Int32Array.from(rows, ([token]) => token),
    positions: Int32Array.from(rows, ([, position]) => position),
    sequenceStart: Int32Array.of(0, ...ends),
    blockTable: Int32Array.from({ length: sequences.length * BLOCKS_EACH }, (_, block) => block),
    blocksPerSequence: BLOCKS_EACH,
    mixtureStart: new Int32Array(rows.length + 1),
    mixtureSlots: new Int32Array(0),
    mixtureWeights: new Float32Array(0),
    logitRows: Int32Array.from(ends, (end) => end - 1),
    ahead,
  };
}

function samplersOf(model: Model): Sampler[] {
  const scratch = new SamplingScratch(model.logitWidth);
  return ANSWERS.map(
    ({ prompt, params }) => new Sampler(samplingParams(params), scratch, { prompt, generated: [], stopIds: [] }),
  );
}

/** By logits and samplers, a step at a time. */
async function answerOnHost(device: DeviceName): Promise<number[][]> {
  const model = modelOn(device);
  const samplers = samplersOf(model);
  const sequences = ANSWERS.map(({ prompt }) => [...prompt]);
  let from = sequences.map(() => 0);
  for (let step = 0; step <= 2 * STEPS; step++) {
    const logits = await model.forward(batchOf(sequences, from, 0));
    from = sequences.map(({ length }) => length);
    for (const [s, tokens] of sequences.entries())
      tokens.push(samplers[s]?.next(logits.subarray(s * model.logitWidth, (s + 1) * model.logitWidth)) ?? -1);
  }
  return sequences;
}

/** The prompts, then steps in twos readings. */
async function answerOnDevice(): Promise<number[][]> {
  const model = modelOn('webgpu');
  const { generate } = model;
  if (generate === undefined) throw new Error('the GPU chooses tokens');
  const samplers = samplersOf(model);
  const sequences = ANSWERS.map(({ prompt }) => [...prompt]);
  let from = sequences.map(() => 0);
  for (const steps of [1, STEPS, STEPS]) {
    const choices = samplers.flatMap((sampler) => sampler.choice(undefined) ?? []);
    const chosen = await generate(batchOf(sequences, from, steps - 1), choices, steps);
    for (const [s, tokens] of sequences.entries()) {
      for (const { token } of chosen[s] ?? []) {
        tokens.push(token);
        samplers[s]?.accept(token);
      }
    }
    from = sequences.map(({ length }) => length - 1);
  }
  return sequences;
}

describe.skipIf(gpu === undefined)('the GPU', () => {
  it('answers by itself, several tokens a reading, as with the sampler of the host', async () => {
    const got = await answerOnDevice();
    expect(got).toEqual(await answerOnHost('webgpu'));
    expect(new Set(got.map((tokens) => tokens.join(' '))).size).toBe(ANSWERS.length);
  });

  // A cache in F16 moves logits by more than draws can be sure to bear.
  it.skipIf(gpu?.features.f16)('draws what the cpu draws', async () => {
    expect(await answerOnDevice()).toEqual(await answerOnHost('cpu'));
  });

  it('refuses several steps of what is more than a row of each sequence, or has no blocks ahead', async () => {
    const model = modelOn('webgpu');
    const choices = samplersOf(model).flatMap((sampler) => sampler.choice(undefined) ?? []);
    const prompts = ANSWERS.map(({ prompt }) => prompt);
    const start = prompts.map(() => 0);
    await expect(model.generate?.(batchOf(prompts, start, 1), choices, 2)).rejects.toThrow(/one row of each sequence/);
    const last = prompts.map(({ length }) => length - 1);
    await expect(model.generate?.(batchOf(prompts, last, 0), choices, 2)).rejects.toThrow(/room ahead/);
    await expect(model.generate?.(batchOf(prompts, last, 40), choices, 2)).rejects.toThrow(
      /beyond its sequence's blocks/,
    );
    await expect(model.generate?.(batchOf(prompts, last, 1), choices.slice(1), 2)).rejects.toThrow(
      /3 tokens to choose/,
    );
  });

  it('is the only device that chooses tokens', () => {
    expect(modelOn('cpu').generate).toBeUndefined();
  });
});
