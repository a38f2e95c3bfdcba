/**
 * Merges against mergekit's golden files, and against plain restatements of the papers.
 */
import { copyFile, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Checkpoint, modelParams, openCheckpoint, openDelta } from '@signpost/engine';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { pack } from '../pack/pack.ts';
import { GOLDEN, readTensors, valuesOf } from '../source/fixtures.ts';
import { electAndMerge } from './combine.ts';
import { openMerge } from './merge.ts';
import { parseRecipe, readRecipe } from './recipe.ts';
import { keepAtRandom, keepLargest } from './sparsify.ts';
import { writeCheckpoint } from './write-checkpoint.ts';

const MERGE = join(GOLDEN, 'merge');
const UP = 'model.layers.0.mlp.up_proj.weight';

let dir: string;
let base: Checkpoint;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'signpost-merge-'));
  base = await openCheckpoint(join(MERGE, 'base'));
});
afterAll(() => rm(dir, { recursive: true }));

/** A recipe of the golden models, as if it stood beside them. */
const merge = async (recipe: object) =>
  (await openMerge(parseRecipe({ base_model: 'base', ...recipe }, join(MERGE, 'test.yaml')))).checkpoint;
const values = (checkpoint: Checkpoint, name = UP) => valuesOf(checkpoint.tensors.get(name));
const difference = (from: Checkpoint, name = UP) => {
  const before = values(base, name);
  return values(from, name).map((value, i) => value - (before[i] ?? 0));
};
const model = (name: string, parameters: object = {}) => ({ model: name, parameters });

function expectClose(got: Float32Array, want: Float32Array, tolerance: number, name: string): void {
  expect(got.length, name).toBe(want.length);
  let worst = 0;
  for (const [i, value] of got.entries()) worst = Math.max(worst, Math.abs(value - (want[i] ?? Number.NaN)));
  expect(worst, name).toBeLessThanOrEqual(tolerance);
}

/** Elements where a model's difference is as large as the smallest that is kept, and not all such are. */
async function undecided(name: string, density: number): Promise<Set<number>> {
  const found = new Set<number>();
  for (const tuned of ['a', 'b', 'c']) {
    const sizes = difference(await openCheckpoint(join(MERGE, tuned)), name).map(Math.abs);
    const sorted = sizes.toSorted().reverse();
    const count = Math.max(1, Math.trunc(density * sizes.length));
    const least = sorted[count - 1];
    if (sorted[count] === least) for (const [i, size] of sizes.entries()) if (size === least) found.add(i);
  }
  return found;
}

describe('mergekit', () => {
  it.each([
    ['linear', 1],
    ['task-arithmetic', 1],
    ['task-arithmetic-filters', 1],
    ['ties', 0.2],
    ['ties-full-density', 1],
    ['ties-weighted-unnormalised', 0.5],
  ])('gets the same from %s.yaml', async (name, density) => {
    const { checkpoint } = await openMerge(await readRecipe(join(MERGE, `${name}.yaml`)));
    const golden = readTensors(join(MERGE, `${name}.safetensors`));
    expect([...checkpoint.tensors.keys()].sort()).toEqual([...golden.keys()].sort());
    let [elements, skipped] = [0, 0];
    for (const [tensor, want] of golden) {
      // Which of equal magnitudes mergekit keeps is up to torch's sort, which is not stable and differs between processors.
      const either = density === 1 ? new Set<number>() : await undecided(tensor, density);
      const decided = (list: Float32Array) => list.filter((_, i) => !either.has(i));
      const largest = want.reduce((max, value) => Math.max(max, Math.abs(value)), 0);
      // A last place of float32, of the tensor's largest value.
      expectClose(decided(values(checkpoint, tensor)), decided(want), largest * 2 ** -23, tensor);
      elements += want.length;
      skipped += either.size;
    }
    expect(skipped / elements).toBeLessThan(density === 1 ? 1e-9 : 0.15);
  });
});

describe('TIES', () => {
  // Few distinct magnitudes, so that ties at the threshold and sums of exactly zero are common.
  const element = fc.integer({ min: -4, max: 4 }).map((n) => n / 8);
  const vector = fc.array(element, { minLength: 1, maxLength: 40 });

  it('keeps as many of the largest as the density says, the earlier of equal ones', () => {
    fc.assert(
      fc.property(vector, fc.double({ min: 0, max: 1, noNaN: true }), (list, density) => {
        const delta = Float32Array.from(list);
        const order = list.map((_, i) => i).sort((i, j) => Math.abs(list[j] ?? 0) - Math.abs(list[i] ?? 0) || i - j);
        const count = density === 0 ? 0 : Math.max(1, Math.trunc(density * list.length));
        const kept = new Set(order.slice(0, count));
        keepLargest((begin, end) => Float32Array.from(list.slice(begin, end)), [list.length], density)(delta, 0);
        expect([...delta].map((value) => value + 0)).toEqual(list.map((value, i) => (kept.has(i) ? value : 0)));
      }),
    );
  });

  it('elects a sign by weighted sum and averages those that agree', () => {
    const weight = fc.integer({ min: -2, max: 8 }).map((n) => n / 4);
    const terms = fc.integer({ min: 1, max: 12 }).chain((length) =>
      fc.array(fc.record({ list: fc.array(element, { minLength: length, maxLength: length }), weight }), {
        minLength: 1,
        maxLength: 4,
      }),
    );
    fc.assert(
      fc.property(terms, fc.boolean(), (models, normalize) => {
        const length = models[0]?.list.length ?? 0;
        const want = Array.from({ length }, (_, i) => {
          const weighted = models.map(({ list, weight: w }) => ({ value: (list[i] ?? 0) * w, weight: w }));
          const sign = weighted.reduce((sum, { value }) => sum + value, 0) >= 0 ? 1 : -1;
          const agreeing = weighted.filter(({ value }) => Math.sign(value) === sign);
          const sum = agreeing.reduce((total, { value }) => total + value, 0);
          const weights = agreeing.reduce((total, { weight: w }) => total + w, 0);
          return normalize && weights !== 0 ? sum / weights : sum;
        });
        const got = electAndMerge(
          models.map(({ list, weight: w }) => ({ values: Float32Array.from(list), weight: w })),
          length,
          normalize,
        );
        for (const [i, value] of want.entries()) expect(got[i]).toBeCloseTo(value, 5);
      }),
    );
  });
});

describe('DARE', () => {
  const COUNT = 200_000;
  const dropped = (density: number, rescale: boolean, key: string) => {
    const delta = new Float32Array(COUNT).fill(1);
    keepAtRandom(density, rescale, key)(delta, 0);
    return delta;
  };

  it.each([0.1, 0.5, 0.9])('keeps the share %f, and rescaled the expected difference', (density) => {
    const delta = dropped(density, true, 'seed');
    const kept = delta.filter((value) => value !== 0);
    // Five standard deviations of a binomial.
    const tolerance = 5 * Math.sqrt((density * (1 - density)) / COUNT);
    expect(Math.abs(kept.length / COUNT - density)).toBeLessThan(tolerance);
    expect(new Set(kept)).toEqual(new Set([Math.fround(1 / density)]));
    expect(new Set(dropped(density, false, 'seed'))).toEqual(new Set([0, 1]));
  });

  it('drops independently by model and by element, and the same again in other blocks', () => {
    const [one, other] = [dropped(0.5, false, '0/0/x'), dropped(0.5, false, '0/1/x')];
    const both = one.filter((value, i) => value !== 0 && other[i] !== 0).length / COUNT;
    const neighbours = one.filter((value, i) => value !== 0 && one[i + 1] !== 0).length / COUNT;
    for (const share of [both, neighbours]) expect(Math.abs(share - 0.25)).toBeLessThan(0.005);
    const tail = new Float32Array(COUNT - 777).fill(1);
    keepAtRandom(0.5, false, '0/0/x')(tail, 777);
    expect(tail).toEqual(one.subarray(777));
  });

  it.each(['dare_linear', 'dare_ties'])(
    '%s averages over seeds to what it would be without dropping',
    async (method) => {
      const models = [model('a', { weight: 1 })];
      const whole = difference(await merge({ merge_method: 'task_arithmetic', models }));
      const runs = 400;
      const mean = new Float64Array(whole.length);
      for (let seed = 0; seed < runs; seed++) {
        const merged = await merge({ merge_method: method, models, parameters: { density: 0.5, seed } });
        for (const [i, value] of difference(merged).entries()) mean[i] = (mean[i] ?? 0) + value / runs;
      }
      // A kept difference is doubled, so its standard deviation is its own size.
      for (const [i, value] of whole.entries())
        expect(Math.abs((mean[i] ?? 0) - value)).toBeLessThan(6 * (Math.abs(value) / Math.sqrt(runs)) + 1e-7);
    },
  );
});

describe('1bit-Merging', () => {
  let packed: string[];
  beforeAll(async () => {
    packed = [];
    for (const name of ['a', 'b', 'c']) {
      const out = join(dir, `${name}.delta.safetensors`);
      await pack(base, await openCheckpoint(join(MERGE, name)), { name, out, scale: 'row', planes: 1 });
      packed.push(out);
    }
  });
  const [selected, density] = [true, 0.2];

  it('adds λ times the untrimmed TIES of the others to the selected expert', async () => {
    const [a = '', b = '', c = ''] = packed;
    const merged = await merge({
      merge_method: '1bit_merging',
      models: [model(a, { selected }), model(b, { density }), model(c, { density, weight: 2 })],
      parameters: { lambda: 0.3 },
    });
    const alone = async (path: string) =>
      difference(await merge({ merge_method: 'task_arithmetic', models: [model(path, { weight: 1 })] }));
    const [one, two, three] = [await alone(a), await alone(b), await alone(c)];
    const got = difference(merged);
    for (const [i, chosen] of one.entries()) {
      const others = [
        { value: two[i] ?? 0, weight: 1 },
        { value: 2 * (three[i] ?? 0), weight: 2 },
      ];
      const positive = others.reduce((sum, { value }) => sum + value, 0) >= 0;
      const agreeing = others.filter(({ value }) => value > 0 === positive);
      const sum = agreeing.reduce((total, { value }) => total + value, 0);
      const weights = agreeing.reduce((total, { weight }) => total + weight, 0);
      expect(got[i]).toBeCloseTo(chosen + (0.3 * sum) / weights, 6);
    }
  });

  it('trims what is not made of signs', async () => {
    const run = async (share: number) =>
      merge({
        merge_method: '1bit_merging',
        models: [model('a', { selected }), model('b', { density: share })],
        parameters: { lambda: 1 },
      });
    const changed = (checkpoint: Checkpoint, from: Checkpoint) => {
      const before = values(from);
      return values(checkpoint).filter((value, i) => value !== before[i]).length;
    };
    const a = await openCheckpoint(join(MERGE, 'a'));
    expect(changed(await run(0.2), a)).toBeLessThanOrEqual(0.2 * values(a).length);
    expect(changed(await run(1), a)).toBeGreaterThan(0.5 * values(a).length);
  });

  it('needs one selected model', async () => {
    const models = [model('a'), model('b')];
    await expect(merge({ merge_method: '1bit_merging', models, parameters: { lambda: 1 } })).rejects.toThrow(
      /needs one model with "selected: true", tensor model\.embed_tokens\.weight has 0/,
    );
  });
});

describe('inputs', () => {
  it('of every kind mix: a checkpoint, an adapter and a packed delta', async () => {
    const out = join(dir, 'mixed.delta.safetensors');
    await pack(base, await openCheckpoint(join(MERGE, 'b')), { name: 'b', out, scale: 'row', planes: 1 });
    const adapter = join(GOLDEN, 'peft/lora');
    const weight = 0.5;
    const models = [model('a', { weight }), model(adapter, { weight }), model(out, { weight })];
    const merged = difference(await merge({ merge_method: 'task_arithmetic', models }));
    const parts = await Promise.all(
      models.map(async ({ model: name }) =>
        difference(await merge({ merge_method: 'task_arithmetic', models: [model(name, { weight })] })),
      ),
    );
    for (const [i, value] of merged.entries())
      expect(value).toBeCloseTo(
        parts.reduce((sum, part) => sum + (part[i] ?? 0), 0),
        6,
      );
  });

  it('a packed delta of another base is refused', async () => {
    const out = join(dir, 'other.delta.safetensors');
    const a = await openCheckpoint(join(MERGE, 'a'));
    await pack(a, await openCheckpoint(join(MERGE, 'b')), { name: 'b', out, scale: 'row', planes: 1 });
    const models = [model(out, { weight: 1 })];
    await expect(merge({ merge_method: 'task_arithmetic', models })).rejects.toThrow(/is a delta for base/);
  });

  it('of another architecture is refused by the field that differs', async () => {
    const models = [model(join(GOLDEN, 'models/llama'), { weight: 1 })];
    await expect(merge({ merge_method: 'task_arithmetic', models })).rejects.toThrow(
      /is no fine-tune of .*config \w+ is/,
    );
  });

  it('has the digest that the checkpoint written of it has', async () => {
    const merged = await merge({ merge_method: 'ties', models: [model('a', { weight: 1, density: 0.3 })] });
    const out = join(dir, 'digest');
    await writeCheckpoint(merged, { out, dtypeOf: () => 'F32', maxShardBytes: 1e9 });
    expect(await merged.digest()).toBe(await (await openCheckpoint(out)).digest());
  });

  it('a merge packs as a delta', async () => {
    const merged = await merge({
      merge_method: 'ties',
      models: [model('a', { weight: 1 }), model('b', { weight: 1 })],
    });
    const out = join(dir, 'merged.delta.safetensors');
    await pack(base, merged, { name: 'merged', out, scale: 'row', planes: 1 });
    const file = openDelta(new Uint8Array(await readFile(out)), out);
    file.checkFits(await base.digest(), modelParams(base.config).specs);
    const names = [...file.params()].map(({ stem }) => `${stem}.weight`);
    expect(names).toContain(UP);
  });
});

describe('a recipe', () => {
  const models = [model('a', { weight: 1 })];
  it.each([
    [{ merge_methd: 'ties', models }, /unknown key "merge_methd"; did you mean "merge_method"\?/],
    [{ merge_method: 'tie', models }, /unknown merge_method "tie"; did you mean "ties"\?/],
    [{ merge_method: 'slerp', models }, /unknown merge_method "slerp"; known: linear, /],
    [
      { merge_method: 'ties', models: [model('a', { wieght: 1 })] },
      /models\[0\].*unknown key "wieght"; did you mean "weight"/,
    ],
    [{ merge_method: 'ties', models: [{ modle: 'a' }] }, /models\[0\].*model/],
    [{ merge_method: 'task_arithmetic', models: [model('a', { density: 1 })] }, /unknown key "density"; known: weight/],
    [
      { merge_method: 'ties', models: [model('a', { normalize: true })] },
      /a model's parameters.*unknown key "normalize"/,
    ],
    [{ merge_method: 'ties', models, parameters: { int8_mask: true } }, /int8_mask is not supported: .*remove it/],
    [{ merge_method: 'ties', slices: [] }, /slices is not supported/],
    [{ merge_method: 'ties', models, base_model: undefined }, /ties needs base_model/],
    [
      { merge_method: 'linear', models: [model('x.delta.safetensors', { weight: 1 })], base_model: undefined },
      /models\[0\] is .*, a delta, .*; name its base as base_model/,
    ],
    [{ merge_method: 'ties', models, dtype: 'float8' }, /dtype/],
    [
      { merge_method: 'ties', models, dtype: 'bfloat16', out_dtype: 'float32' },
      /dtype must be float32 beside an out_dtype/,
    ],
    [{ merge_method: 'ties', models: [model('base', { weight: 1 })] }, /the base .* takes no parameters/],
    [{ merge_method: 'ties', models: [model('a')] }, /a needs "weight" for tensor model\.embed_tokens\.weight/],
    [{ merge_method: 'ties', models: [model('a', { weight: true })] }, /"weight" of .*a is true .* expected a number/],
    [
      { merge_method: 'ties', models, parameters: { normalize: 1 } },
      /"normalize" of ties is 1 .* expected true or false/,
    ],
    [{ merge_method: 'ties', models, parameters: { density: 2 } }, /density 2 .* not between 0 and 1/],
  ])('%j is refused', async (recipe, message) => {
    await expect(merge(recipe)).rejects.toThrow(message);
  });

  it('with any key misspelt is refused by that key', () => {
    const whole = { merge_method: 'ties', base_model: 'base', models, parameters: {}, dtype: 'float32' };
    const keys = Object.keys(whole) as (keyof typeof whole)[];
    fc.assert(
      fc.property(fc.constantFrom(...keys), fc.constantFrom('x', '_', 's'), (key, letter) => {
        const { [key]: value, ...rest } = whole;
        const misspelt = `${key}${letter}`;
        expect(() => parseRecipe({ ...rest, [misspelt]: value }, 'r.yaml')).toThrow(
          `unknown key "${misspelt}"; did you mean "${key}"?`,
        );
      }),
    );
  });

  it('may list the base among the models', async () => {
    const listed = await merge({ merge_method: 'ties', models: [{ model: 'base' }, ...models] });
    expect(values(listed)).toEqual(values(await merge({ merge_method: 'ties', models })));
  });

  it('that is not YAML, or not there, is refused with its path', async () => {
    const path = join(dir, 'broken.yaml');
    await writeFile(path, 'models: [a');
    await expect(readRecipe(path)).rejects.toThrow(/broken\.yaml is not YAML/);
    await expect(readRecipe(join(dir, 'none.yaml'))).rejects.toThrow(/none\.yaml can't be read/);
  });

  it('stands for the models beside it', async () => {
    const path = join(MERGE, 'ties.yaml');
    await copyFile(path, join(dir, 'moved.yaml'));
    await expect(openMerge(await readRecipe(join(dir, 'moved.yaml')))).rejects.toThrow(/base is no folder/);
  });
});
