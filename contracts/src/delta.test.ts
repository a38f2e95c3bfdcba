import { describe, expect, it } from 'vitest';
import { checkParamLayout, DELTA_FORMAT, deltaLayout, deltaStem, signWords } from './delta.ts';
import type { SafetensorsHeader, TensorSpec } from './safetensors.ts';

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
