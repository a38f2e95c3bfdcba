/**
 * A walk, layer by layer and chunk by chunk, against the whole model at once: the same bits.
 */
import { join } from 'node:path';
import { deltaStem } from '@signpost/contracts';
import { expect, it } from 'vitest';
import { openCheckpoint } from '../checkpoint/checkpoint.ts';
import type { ParamDelta } from '../device/device.ts';
import { LayerWalk } from './layer-walk.ts';
import { Model } from './model.ts';
import { isLinearWeight, modelParams } from './params.ts';
import { Session } from './session.ts';

const GOLDEN = join(import.meta.dirname, '../../../test/golden');
const OPTIONS = { device: 'cpu', slots: 1, kvBlocks: 8, blockTokens: 16, maxRows: 128, maxLogitRows: 128 } as const;

const sequences = Array.from({ length: 40 }, (_, s) =>
  Array.from({ length: 20 + ((s * 7) % 31) }, (_, i) => (s * 31 + i * 17) % 90),
);

it('gives the whole model’s logits', async () => {
  const base = await openCheckpoint(join(GOLDEN, 'merge/base'));
  expect(sequences.flat().length).toBeGreaterThan(1024);
  const model = await Model.load(base, OPTIONS);
  const walk = new LayerWalk(base, sequences);
  const got: number[] = [];
  for await (const { logits } of walk.ends()) got.push(...logits);
  const want: number[] = [];
  for (const tokens of sequences) want.push(...(await new Session(model, OPTIONS.kvBlocks).append(tokens, 'all')));
  expect(got).toEqual(want);
  walk.close();
  model.close();
});

it('computes with what is loaded at its halts as with what was loaded long before', async () => {
  const base = await openCheckpoint(join(GOLDEN, 'merge/base'));
  const deltaOf = (stem: string): ParamDelta => {
    const [out = 0, inDim = 0] = base.tensors.get(`${stem}.weight`)?.info.shape ?? [];
    const signs = Uint32Array.from({ length: out * Math.ceil(inDim / 32) }, (_, i) => Math.imul(i + 1, 0x9e3779b1));
    return { planes: [{ signs, rowScale: new Float32Array(out).fill(0.02) }] };
  };
  const lastInput = async (when: 'before' | 'at halts' | 'never') => {
    const walk = new LayerWalk(base, sequences);
    const { specs } = modelParams(base.config);
    if (when === 'before')
      for (const { name } of specs) if (isLinearWeight(name)) walk.load(deltaStem(name), deltaOf(deltaStem(name)));
    const values: number[] = [];
    for await (const stage of walk.stages()) {
      values.length = 0;
      for await (const { input } of stage.inputs()) values.push(...input);
      if (when === 'at halts') for (const stem of stage.stems) walk.load(stem, deltaOf(stem));
    }
    walk.close();
    return values;
  };
  const before = await lastInput('before');
  expect(await lastInput('at halts')).toEqual(before);
  expect(await lastInput('never')).not.toEqual(before);
});

it('halts before each group of linear layers, and shows it every token’s input', async () => {
  const base = await openCheckpoint(join(GOLDEN, 'merge/base'));
  const walk = new LayerWalk(base, sequences);
  const { layers, hidden } = base.config;
  const tokens = sequences.flat().length;
  const stems: string[] = [];
  for await (const stage of walk.stages()) {
    stems.push(...stage.stems);
    let [inputs, streams] = [0, 0];
    for await (const { input, addedTo } of stage.inputs()) {
      inputs += input.length;
      streams += addedTo?.length ?? 0;
    }
    expect(inputs).toBe(tokens * stage.inDim);
    expect(streams).toBe(stage.stems.length === 1 ? tokens * hidden : 0);
  }
  expect(stems.length).toBe(7 * layers);
  expect(stems.slice(0, 3)).toEqual(['q', 'k', 'v'].map((name) => `model.layers.0.self_attn.${name}_proj`));
  walk.close();
});
