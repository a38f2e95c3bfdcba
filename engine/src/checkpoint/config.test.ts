import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { parseModelConfig } from './config.ts';

const GOLDEN = join(import.meta.dirname, '../../../test/golden/models');
const config = (family: string) =>
  JSON.parse(readFileSync(join(GOLDEN, family, 'config.json'), 'utf8')) as Record<string, unknown>;

describe('a model config', () => {
  it.each(readdirSync(GOLDEN))('of %s is read', (family) => {
    expect(parseModelConfig(config(family), family)).toMatchObject({ layers: 3, vocabSize: 320 });
  });

  it('is read the same in both of the styles transformers writes', () => {
    const { rope_parameters, ...rest } = config('llama-rope-linear');
    const old = parseModelConfig({ ...rest, rope_theta: 10_000, rope_scaling: { type: 'linear', factor: 4 } }, 'old');
    expect(old).toEqual(parseModelConfig({ ...rest, rope_parameters }, 'new'));
    expect(old.ropeScaling).toEqual({ kind: 'linear', factor: 4 });
  });

  it.each([
    ['another family', { model_type: 'gpt2' }, /model family "gpt2" is not supported/],
    ['another activation', { hidden_act: 'gelu' }, /only the activation "silu"/],
    [
      'a rope type that would be computed otherwise',
      { rope_parameters: { rope_type: 'yarn' } },
      /rope type "yarn" is not supported/,
    ],
    ['a rope type without its factor', { rope_parameters: { rope_type: 'linear' } }, /needs factor/],
    ['heads that do not divide', { num_key_value_heads: 3 }, /can't share 3/],
    ['a missing size', { hidden_size: undefined }, /config\.json: hidden_size/],
  ])('with %s is refused', (_, change, message) => {
    expect(() => parseModelConfig({ ...config('llama'), ...change }, 'config.json')).toThrow(message);
  });
});
