import { describe, expect, it } from 'vitest';
import { checkDeltaFits, checkParamLayout, DELTA_FORMAT, deltaLayout, deltaStem, signWords } from './delta.ts';
import type { Digest } from './digest.ts';
import type { SafetensorsHeader, TensorSpec } from './safetensors.ts';
import { MAX_ADDED_ROWS } from './tokenizer-changes.ts';

const DIGEST = 'a'.repeat(64);
const METADATA = {
  format: DELTA_FORMAT,
  base: DIGEST,
  expert: 'math',
  method: 'row',
  parameters: '{}',
  errors: '{"m":0.5}',
  source: DIGEST,
  packer: '0.1.0',
};

function header(tensors: readonly TensorSpec[], metadata: Record<string, string> = METADATA): SafetensorsHeader {
  return { metadata, headerBytes: 0, fileBytes: 0, tensors: tensors.map((spec) => ({ ...spec, offset: 0, bytes: 0 })) };
}

const sign = (plane: number, shape = [6, 2]): TensorSpec => ({ name: `m.sign.${plane}`, dtype: 'U32', shape });
const scale = (plane: number, shape = [6]): TensorSpec => ({ name: `m.row_scale.${plane}`, dtype: 'F32', shape });

describe('a delta layout', () => {
  it('groups planes and exact differences by parameter, in file order', () => {
    const exact: TensorSpec = { name: 'model.norm.delta', dtype: 'BF16', shape: [40] };
    const layout = deltaLayout(header([sign(0), scale(0), sign(1), scale(1), exact]), 'test');
    expect(layout.params.map((param) => [param.stem, param.planes.length, param.exact?.name])).toEqual([
      ['m', 2, undefined],
      ['model.norm', 0, 'model.norm.delta'],
    ]);
    expect(layout.metadata.errors).toEqual({ m: 0.5 });
  });

  it.each([
    ['a sign tensor without its scale', [sign(0)], /m plane 0 lacks its row_scale/],
    ['a plane without the one before', [sign(1), scale(1)], /has plane 1 but not plane 0/],
    [
      'a tensor of another kind',
      [{ name: 'm.weight', dtype: 'BF16', shape: [2] }],
      /m\.weight is no part of a delta file/,
    ],
    ['signs of another dtype', [{ ...sign(0), dtype: 'I32' }, scale(0)], /m\.sign\.0 is I32, expected U32/],
  ] as [string, TensorSpec[], RegExp][])('refuses %s by name', (_, tensors, message) => {
    expect(() => deltaLayout(header(tensors), 'test')).toThrow(message);
  });

  it('refuses other files and metadata that is not what it should be', () => {
    expect(() => deltaLayout(header([], {}), 'test')).toThrow(/not a Signpost delta file/);
    expect(() => deltaLayout(header([], { ...METADATA, base: 'no' }), 'test')).toThrow(/base: expected a sha256/);
    expect(() => deltaLayout(header([], { ...METADATA, errors: '{' }), 'test')).toThrow(
      /errors: not the JSON expected/,
    );
  });

  it('has as many added rows in the head as in the embedding, and no more than allowed', () => {
    const rows = (name: string, count: number): TensorSpec => ({
      name: `${name}.added`,
      dtype: 'BF16',
      shape: [count, 4],
    });
    const embedding = 'model.embed_tokens';
    const layout = deltaLayout(header([rows(embedding, 3), rows('lm_head', 3)]), 'test');
    expect([layout.addedRows, layout.params.map(({ added }) => added?.shape)]).toEqual([
      3,
      [
        [3, 4],
        [3, 4],
      ],
    ]);
    expect(deltaLayout(header([sign(0), scale(0)]), 'test').addedRows).toBe(0);
    const refuse = (tensors: TensorSpec[], message: RegExp) =>
      expect(() => deltaLayout(header(tensors), 'test')).toThrow(message);
    refuse([rows(embedding, 3), rows('lm_head', 2)], /2 rows are added to lm_head, and 3 to model\.embed_tokens/);
    refuse([rows('lm_head', 2)], /2 rows are added to lm_head, and 0 to/);
    refuse([rows(embedding, MAX_ADDED_ROWS + 1)], /is \[4097,4\]; 1 to 4096 rows/);
    refuse([rows(embedding, 0)], /is \[0,4\]; 1 to 4096 rows/);
    refuse([{ ...rows(embedding, 2), dtype: 'F32' }], /is F32, expected BF16/);
    const base = [
      { name: 'model.embed_tokens.weight', shape: [7, 4] },
      { name: 'lm_head.weight', shape: [7, 4] },
    ];
    const fit = (params: typeof base, ...tensors: TensorSpec[]) =>
      checkDeltaFits(deltaLayout(header(tensors), 'test'), DIGEST as Digest, params, 'test');
    expect(() => fit(base, rows(embedding, 3), rows('lm_head', 3))).not.toThrow();
    expect(() => fit(base, rows(embedding, 3))).toThrow(/added to model\.embed_tokens alone/);
    expect(() => fit(base.slice(0, 1), rows(embedding, 3))).not.toThrow();
    expect(() => fit(base, { ...rows(embedding, 3), shape: [3, 5] }, rows('lm_head', 3))).toThrow(
      /embed_tokens\.added is \[3,5\], the base needs \[3,4\]/,
    );
  });

  it('is checked against the shape the base has', () => {
    const param = (...tensors: TensorSpec[]) => {
      const [only] = deltaLayout(header(tensors), 'test').params;
      if (only === undefined) throw new Error('no parameter');
      return only;
    };
    const fit = (shape: number[], ...tensors: TensorSpec[]) => checkParamLayout(param(...tensors), shape, 'test');
    expect(() => fit([6, 40], sign(0), scale(0))).not.toThrow();
    expect(() => fit([6, 40], sign(0), scale(0, [1]))).not.toThrow();
    expect(() => fit([6, 80], sign(0), scale(0))).toThrow(/m\.sign\.0 is \[6,2\], the base needs \[6,3\]/);
    expect(() => fit([6, 40], sign(0), scale(0, [5]))).toThrow(
      /m\.row_scale\.0 is \[5\], the base needs \[6\] or \[1\]/,
    );
    expect(() => fit([6], sign(0), scale(0))).toThrow(/is a vector/);
  });
});

it('stems drop a final .weight only', () => {
  expect(deltaStem('model.norm.weight')).toBe('model.norm');
  expect(deltaStem('model.layers.0.self_attn.q_proj.bias')).toBe('model.layers.0.self_attn.q_proj.bias');
  expect([1, 32, 33].map(signWords)).toEqual([1, 1, 2]);
});
