/**
 * The forward pass against transformers: logits at every position, and greedy tokens, of every family and of the demo models.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { openCheckpoint } from '../checkpoint/checkpoint.ts';
import type { DeviceName } from '../device/index.ts';
import { openTestGpu } from '../device/webgpu/testing.ts';
import { argmax, logProbability } from '../sampling/logprobs.ts';
import { Tokenizer } from '../tokenizer/tokenizer.ts';
import { Model } from './model.ts';
import type { WeightFormat } from './params.ts';
import { Session } from './session.ts';

interface GoldenCase {
  readonly input_ids: readonly number[];
  readonly last_logits: readonly number[];
  readonly argmax?: readonly number[];
  readonly prompt_logprobs?: readonly (number | null)[];
  readonly greedy: readonly number[];
  readonly text?: string;
  readonly prompt?: string;
}

const ROOT = join(import.meta.dirname, '../../..');
const GOLDEN = join(ROOT, 'test/golden/models');
const DEMO = join(ROOT, 'models/demo');
const gpu = await openTestGpu();
/** The GPU's cache is in F16 where the adapter has that. */
const TOLERANCE = { reference: 1e-3, cpu: 1e-2, webgpu: gpu?.features.f16 ? 2e-2 : 1e-3 } as const;
const DEVICES: readonly DeviceName[] = gpu === undefined ? ['reference', 'cpu'] : ['reference', 'cpu', 'webgpu'];
/** In software a GPU is slow: it is checked on the first case of a model, and the first of its tokens. */
const some = (cases: readonly GoldenCase[], device: DeviceName): readonly GoldenCase[] =>
  device === 'webgpu' && gpu?.identity.isSoftware
    ? cases.slice(0, 1).map((golden) => ({ ...golden, greedy: golden.greedy.slice(0, 10) }))
    : cases;
const SOFTWARE_GPU_MS = 180_000;
const BLOCKS = 16;
/** Logits that 8-bit weights may change places. */
const NEAR = 0.1;

const open: Model[] = [];
afterAll(async () => {
  for (const model of open) await model.close();
  gpu?.close();
});

async function load(dir: string, device: DeviceName, weights: WeightFormat = 'bf16'): Promise<Model> {
  const model = await Model.load(await openCheckpoint(dir), {
    device,
    weights,
    slots: 0,
    kvBlocks: BLOCKS,
    blockTokens: 8,
    maxRows: 128,
    maxLogitRows: 128,
    ...(gpu && { gpu: { shared: gpu } }),
  });
  open.push(model);
  return model;
}

async function check(model: Model, golden: GoldenCase, tolerance: number): Promise<void> {
  const { vocabSize } = model.config;
  const logits = await new Session(model, BLOCKS).append(golden.input_ids, 'all');
  const row = (position: number) => logits.subarray(position * vocabSize, (position + 1) * vocabSize);
  const last = row(golden.input_ids.length - 1);
  const worst = golden.last_logits.reduce((max, want, i) => Math.max(max, Math.abs(want - (last[i] ?? Number.NaN))), 0);
  expect(worst).toBeLessThan(tolerance);
  golden.prompt_logprobs?.forEach((want, i) => {
    if (want !== null)
      expect(Math.abs(logProbability(row(i - 1), golden.input_ids[i] ?? -1) - want)).toBeLessThan(tolerance);
  });
  expect(await new Session(model, BLOCKS).greedy(golden.input_ids, golden.greedy.length)).toEqual(golden.greedy);
}

describe.each(DEVICES)('on %s', (device) => {
  it.each(readdirSync(GOLDEN))(
    '%s gives the logits and greedy tokens of transformers',
    async (family) => {
      const model = await load(join(GOLDEN, family), device);
      const { cases } = JSON.parse(readFileSync(join(GOLDEN, family, 'golden.json'), 'utf8')) as {
        cases: GoldenCase[];
      };
      expect(cases.length).toBeGreaterThan(0);
      for (const golden of some(cases, device)) await check(model, golden, TOLERANCE[device]);
    },
    SOFTWARE_GPU_MS,
  );

  const { cases } = JSON.parse(readFileSync(join(DEMO, 'golden.json'), 'utf8')) as {
    cases: Record<string, GoldenCase[]>;
  };
  it.each(Object.keys(cases))(
    'the demo model %s gives the logits and greedy tokens of transformers',
    async (name) => {
      const model = await load(name === 'base' ? join(DEMO, 'base') : join(DEMO, 'experts', name), device);
      const all = cases[name] ?? [];
      // The reference is slow, too.
      for (const golden of device === 'reference' ? all.slice(0, 1) : some(all, device))
        await check(model, golden, TOLERANCE[device]);
    },
    SOFTWARE_GPU_MS,
  );
});

describe.each(['q8', 'q4'] as const)('with %s weights', (weights) => {
  const { cases } = JSON.parse(readFileSync(join(DEMO, 'golden.json'), 'utf8')) as {
    cases: Record<string, GoldenCase[]>;
  };
  const dirOf = (name: string) => (name === 'base' ? join(DEMO, 'base') : join(DEMO, 'experts', name));

  it('cpu gives the logits of the reference, a hundred times nearer than the weights as they were, and less memory', async () => {
    const [cpu, reference, full] = [
      await load(dirOf('base'), 'cpu', weights),
      await load(dirOf('base'), 'reference', weights),
      await load(dirOf('base'), 'cpu'),
    ];
    const { input_ids } = cases.base?.[0] ?? { input_ids: [] };
    const [got, want, unrounded] = [
      await new Session(cpu, BLOCKS).append(input_ids, 'all'),
      await new Session(reference, BLOCKS).append(input_ids, 'all'),
      await new Session(full, BLOCKS).append(input_ids, 'all'),
    ];
    // The reference rounds no activations.
    const differenceTo = (other: Float32Array) =>
      Math.sqrt(want.reduce((sum, value, i) => sum + (value - (other[i] ?? Number.NaN)) ** 2, 0) / want.length);
    expect(differenceTo(got)).toBeLessThan(differenceTo(unrounded) / 100);
    expect(got.length).toBe(input_ids.length * cpu.config.vocabSize);
    want.forEach((value, i) => {
      if (!(Math.abs(value - (got[i] ?? Number.NaN)) < TOLERANCE.cpu))
        throw new Error(`logit ${i} is ${got[i]}, the reference has ${value}`);
    });
    expect(cpu.weightBytes / full.weightBytes).toBeLessThan(weights === 'q8' ? 0.54 : 0.4);
  });

  // With 4 bits more answers differ, and nobody promises which.
  it.runIf(weights === 'q8').each(Object.keys(cases))(
    'the demo model %s chooses the tokens of transformers where its second choice is not near',
    async (name) => {
      const [model, full] = [await load(dirOf(name), 'cpu', weights), await load(dirOf(name), 'cpu')];
      let [near, rows] = [0, 0];
      for (const { input_ids, greedy } of cases[name] ?? []) {
        const ids = [...input_ids, ...greedy.slice(0, -1)];
        const [got, want] = [
          await new Session(model, BLOCKS).append(ids, 'all'),
          await new Session(full, BLOCKS).append(ids, 'all'),
        ];
        greedy.forEach((token, i) => {
          const at = (input_ids.length - 1 + i) * model.config.vocabSize;
          const row = (logits: Float32Array) => logits.subarray(at, at + model.config.vocabSize);
          const [best = 0, second = 0] = row(want).toSorted((x, y) => y - x);
          rows++;
          if (best - second < NEAR) near++;
          else expect(argmax(row(got)), `token ${i} of ${greedy}`).toBe(token);
        });
      }
      expect(near).toBeLessThan(rows / 10);
    },
  );
});

describe('the demo tokenizer', () => {
  it('gives the chat template text, token ids and answers of transformers', async () => {
    const tokenizer = await Tokenizer.load(join(DEMO, 'base'));
    const { cases } = JSON.parse(readFileSync(join(DEMO, 'golden.json'), 'utf8')) as {
      cases: Record<string, (GoldenCase & { answer: string })[]>;
    };
    for (const { prompt, text, input_ids, greedy, answer } of Object.values(cases).flat()) {
      const messages = [{ role: 'user' as const, content: prompt ?? '' }];
      expect(tokenizer.chatPrompt(messages)).toBe(text);
      expect(tokenizer.encodeChat(messages)).toEqual(input_ids);
      expect(tokenizer.decode(greedy).trim()).toBe(answer.trim());
      const stream = tokenizer.stream();
      expect(greedy.map((id) => stream.push(id)).join('') + stream.flush()).toBe(tokenizer.decode(greedy));
    }
  });
});
