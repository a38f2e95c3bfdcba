/**
 * Weights that are computed from in the checkpoint's files until they are copied.
 */
import { cp, mkdtemp, open, readdir, rm, truncate, utimes } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { openCheckpoint } from '../checkpoint/checkpoint.ts';
import { Model } from './model.ts';
import type { WeightFormat } from './params.ts';
import { Session } from './session.ts';

const ROOT = join(import.meta.dirname, '../../..');
const PROMPT = [5, 6, 7, 11, 12];
const BLOCKS = 4;

let dir: string;
let weights: string;
const models: Model[] = [];
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'signpost-residence-'));
  weights = join(dir, 'model.safetensors');
});
afterEach(async () => {
  for (const model of models.splice(0)) await model.close();
  await rm(dir, { recursive: true });
});

async function load(residence: 'memory' | 'files', format: WeightFormat = 'bf16'): Promise<Model> {
  const sizes = { slots: 0, kvBlocks: BLOCKS, blockTokens: 4, maxRows: 8, maxLogitRows: 8 };
  const model = await Model.load(await openCheckpoint(dir), { device: 'cpu', weights: format, residence, ...sizes });
  models.push(model);
  return model;
}

const logits = async (model: Model) => new Session(model, BLOCKS).append(PROMPT, 'all');

describe.each([
  ['BF16', 'models/demo/base'],
  ['shards of BF16', 'test/golden/models/mistral'],
  ['F16', 'test/golden/models/llama-rope-linear'],
  ['F32', 'test/golden/models/smollm2'],
])('a checkpoint in %s', (_, from) => {
  beforeEach(() => cp(join(ROOT, from), dir, { recursive: true }));

  it.each(['bf16', 'q8'] as const)(
    'computes the same in its files, and with its copies, weights in %s',
    async (format) => {
      const [copied, model] = [await load('memory', format), await load('files', format)];
      const want = await logits(copied);
      expect(model.weightBytes).toBe(copied.weightBytes);
      expect(await logits(model)).toEqual(want);
      expect(await model.settle()).toBe(0);
      expect(model.weightBytes).toBe(copied.weightBytes);
      // What is mapped beyond a file's end ends the process when it is read.
      for (const name of await readdir(dir)) if (name.endsWith('.safetensors')) await truncate(join(dir, name));
      expect(await logits(model)).toEqual(want);
    },
  );
});

describe('a file that was written to', () => {
  beforeEach(() => cp(join(ROOT, 'models/demo/base'), dir, { recursive: true }));

  it('is named when it is copied', async () => {
    const model = await load('files');
    const file = await open(weights, 'r+');
    await file.write(Uint8Array.of(1), 0, 1, 5_000_000);
    await file.close();
    await expect(model.settle()).rejects.toThrow(`${weights} was written to while it was in use`);
  });

  it('matters to nobody once it is copied', async () => {
    const model = await load('files');
    await model.settle();
    await utimes(weights, 0, 0);
    expect(await model.settle()).toBe(0);
  });
});

it('a model may be closed while it is copied', async () => {
  await cp(join(ROOT, 'models/demo/base'), dir, { recursive: true });
  const model = await load('files');
  const settling = model.settle();
  await model.close();
  await settling;
  await expect(model.settle()).rejects.toThrow('closed');
});
