/**
 * What a step may compute of an expert that is still on its way.
 */
import { describe, expect, it } from 'vitest';
import { modelParams } from './params.ts';
import { SlotFilling, stageCount, stageOf } from './slot-filling.ts';

const params = modelParams({
  family: 'llama',
  hidden: 8,
  ffn: 16,
  layers: 2,
  heads: 2,
  kvHeads: 1,
  headDim: 4,
  vocabSize: 32,
  maxPositions: 64,
  rmsNormEps: 1e-5,
  ropeTheta: 10_000,
  ropeScaling: { kind: 'none' },
  slidingWindow: 0,
  tiedHead: false,
  qkvBias: false,
  outBias: false,
  mlpBias: false,
  qkNorm: false,
  eosIds: [],
});

describe('a slot that is being filled', () => {
  it('lets a layer’s attention begin before the rest of the layer is in, and the logits not before all is', async () => {
    const names = params.specs.map(({ name }) => name);
    const filling = new SlotFilling();
    filling.begin(
      names.map((_, param) => stageOf(params, param)),
      stageCount(params),
    );
    const hasAfter = (name: string): number[] => {
      while (loaded <= names.indexOf(name)) {
        filling.advance();
        loaded++;
      }
      return Array.from({ length: stageCount(params) }, (_, stage) => stage).filter((stage) => filling.has(stage));
    };
    let loaded = 0;
    const of = (layer: number, name: string) => `model.layers.${layer}.${name}`;
    expect(hasAfter('model.embed_tokens.weight')).toEqual([0]);
    expect(hasAfter(of(0, 'self_attn.v_proj.weight'))).toEqual([0]);
    expect(hasAfter(of(0, 'self_attn.o_proj.weight'))).toEqual([0, 1]);
    expect(hasAfter(of(0, 'mlp.up_proj.weight'))).toEqual([0, 1]);
    expect(hasAfter(of(0, 'mlp.down_proj.weight'))).toEqual([0, 1, 2]);
    expect(hasAfter(of(1, 'self_attn.o_proj.weight'))).toEqual([0, 1, 2, 3]);
    expect(hasAfter(of(1, 'mlp.down_proj.weight'))).toEqual([0, 1, 2, 3, 4]);
    expect(hasAfter('lm_head.weight')).toEqual([0, 1, 2, 3, 4]);
    const logits = filling.ready(5);
    filling.finish();
    await logits;
    expect(filling.ready(5)).toBeUndefined();
  });
});
