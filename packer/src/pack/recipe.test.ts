import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { packCommand } from './command.ts';
import { parsePackRecipe } from './recipe.ts';

const DEMO = join(import.meta.dirname, '../../../models/demo');
const model = { model: 'experts/math', name: 'math' };
const recipe = (parameters: object, own: object = {}) =>
  parsePackRecipe({ base_model: 'base', models: [{ ...model, parameters: own }], parameters }, '/recipes/pack.yaml');

describe('a pack recipe', () => {
  it('has defaults for everything but the models, and paths relative to its folder', () => {
    expect(recipe({})).toEqual([
      {
        base: '/recipes/base',
        model: '/recipes/experts/math',
        name: 'math',
        scale: 'row',
        policy: 'all-linear',
        planes: 1,
        exact: 'bfloat16',
        calibration: undefined,
      },
    ]);
    const { models } = { models: [{ ...model, model: 'hf://org/name@main' }] };
    expect(parsePackRecipe({ base_model: '/base', models }, '/recipes/pack.yaml')).toMatchObject([
      { base: '/base', model: 'hf://org/name@main' },
    ]);
  });

  it('lets a model’s own parameters come before the shared ones, and its budget take the place of theirs', () => {
    const shared = { scale: 'matrix', bits: 1.5, calibrate: 'shared.jsonl' };
    expect(recipe(shared, { scale: 'row', planes: 2 })).toMatchObject([
      { scale: 'row', planes: 2, calibration: { prompts: '/recipes/shared.jsonl', tokens: 16_384 } },
    ]);
    expect(recipe(shared, { scale: 'row' })).toMatchObject([{ planes: { bits: 1.5 } }]);
    expect(recipe({ max_error: 0.3 })).toMatchObject([{ planes: { maxError: 0.3 } }]);
  });

  it.each([
    [{ scal: 'row' }, {}, /parameters: unknown key "scal"; did you mean "scale"\?/],
    [{}, { calibrat: 'x' }, /models\[0\]\.parameters: unknown key "calibrat"; did you mean "calibrate"\?/],
    [{ policy: '1bit-merging/maths' }, {}, /unknown policy "1bit-merging\/maths"; did you mean "1bit-merging\/math"\?/],
    [{ planes: 2, bits: 1.5 }, {}, /planes, bits and max_error exclude each other/],
    [{ scale: 'rows' }, {}, /parameters\.scale/],
    [{ calibration_tokens: 10 }, {}, /calibration_tokens does nothing without calibrate/],
  ])('%j %j is refused', (parameters, own, message) => {
    expect(() => recipe(parameters, own)).toThrow(message);
  });

  it('with any key misspelt is refused by that key', () => {
    const keys = ['base_model', 'models', 'parameters'] as const;
    fc.assert(
      fc.property(fc.constantFrom(...keys), fc.constantFrom('x', '_', 's'), (key, letter) => {
        const whole: Record<string, unknown> = { base_model: 'base', models: [model], parameters: {} };
        const { [key]: value, ...rest } = whole;
        const misspelt = `${key}${letter}`;
        expect(() => parsePackRecipe({ ...rest, [misspelt]: value }, 'r.yaml')).toThrow(
          `unknown key "${misspelt}"; did you mean "${key}"?`,
        );
      }),
    );
  });

  it('names each expert once', () => {
    expect(() => parsePackRecipe({ base_model: 'base', models: [model, model] }, 'r.yaml')).toThrow(
      /two models are named "math"/,
    );
  });
});

describe('the command', () => {
  let dir: string;
  beforeAll(async () => {
    dir = await mkdtemp(join(tmpdir(), 'signpost-pack-command-'));
  });
  afterAll(() => rm(dir, { recursive: true }));

  const run = (...args: string[]) => packCommand().exitOverride().parseAsync(args, { from: 'user' });

  it('leaves a recipe, a README and a chart beside the delta; the recipe repeats it to the byte', async () => {
    const [first, second] = [join(dir, 'first'), join(dir, 'second')];
    const out = join(first, 'math.delta.safetensors');
    await run('--base', join(DEMO, 'base'), '--tuned', join(DEMO, 'experts/math'), '--name', 'math', '--out', out);
    const names = ['math.delta.safetensors', 'math.recipe.yaml', 'math.report.md', 'math.report.svg'];
    expect((await readdir(first)).sort()).toEqual(names);
    const report = await readFile(join(first, 'math.report.md'), 'utf8');
    expect(report).toMatch(/\| attention \| 24 \| 1bit \|/);
    expect(report).toMatch(/\| model\.layers\.5\.mlp\.down_proj \| 1 \| 0\.\d{4} \|/);
    expect(await readFile(join(first, 'math.report.svg'), 'utf8')).toMatch(/^<svg.*down_proj/s);
    expect(parse(await readFile(join(first, 'math.recipe.yaml'), 'utf8'))).toMatchObject({ parameters: { planes: 1 } });
    await run(join(first, 'math.recipe.yaml'), '--out', second);
    expect((await readFile(join(second, names[0] ?? ''))).equals(await readFile(out))).toBe(true);
  });

  it('wants a recipe or the flags, not both, and no half of either', async () => {
    const path = join(dir, 'pack.yaml');
    await writeFile(path, `base_model: ${DEMO}/base\nmodels: [{ model: ${DEMO}/experts/math, name: math }]\n`);
    await expect(run('--out', 'x.delta.safetensors')).rejects.toThrow(/needs a recipe file, or --base/);
    await expect(run(path, '--out', dir, '--planes', '2')).rejects.toThrow(/write planes into it/);
    await expect(run('--base', 'b', '--tuned', 't', '--name', 'n', '--out', 'folder')).rejects.toThrow(
      /ends in \.delta\.safetensors/,
    );
  });
});
