/**
 * LoRA adapters on their base, against what peft's `merge_and_unload` wrote and against a plain matrix product.
 */
import { cp, mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Checkpoint, openCheckpoint } from '@signpost/engine';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { GOLDEN, readTensors, valuesOf, writeTensors } from './fixtures.ts';
import { locateIn } from './location.ts';
import { openSource } from './open.ts';

let dir: string;
let base: Checkpoint;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'signpost-peft-'));
  base = await openCheckpoint(join(GOLDEN, 'merge/base'));
});
afterAll(() => rm(dir, { recursive: true }));

const MODULE = 'model.layers.0.mlp.up_proj';
const [OUT, IN, VOCAB, HIDDEN] = [80, 48, 96, 48];
const CONFIG = { peft_type: 'LORA', r: 2, lora_alpha: 6, bias: 'none' };

type Tensors = Parameters<typeof writeTensors>[1];

async function adapter(config: Readonly<Record<string, unknown>>, tensors: Tensors): Promise<string> {
  const folder = await mkdtemp(join(dir, 'adapter-'));
  await writeFile(join(folder, 'adapter_config.json'), JSON.stringify(config));
  await writeTensors(join(folder, 'adapter_model.safetensors'), tensors);
  return folder;
}

function ramp(...shape: number[]): { shape: number[]; values: Float32Array } {
  const count = shape.reduce((product, dim) => product * dim, 1);
  return { shape, values: Float32Array.from({ length: count }, (_, i) => Math.sin(i + count) / 8) };
}

const factors = (r: number, module = MODULE): Tensors => ({
  [`base_model.model.${module}.lora_A.weight`]: ramp(r, IN),
  [`base_model.model.${module}.lora_B.weight`]: ramp(OUT, r),
});

/** W + scale · B · A, element by element. */
function oracle(weight: Float32Array, a: Float32Array, b: Float32Array, rank: number, scale: number): number[] {
  return Array.from(weight, (value, i) => {
    const [row, col] = [Math.floor(i / IN), i % IN];
    let sum = 0;
    for (let k = 0; k < rank; k++) sum += (b[row * rank + k] ?? 0) * (a[k * IN + col] ?? 0);
    return value + scale * sum;
  });
}

function expectClose(got: Float32Array, want: ArrayLike<number>, name: string): void {
  expect(got.length, name).toBe(want.length);
  let worst = 0;
  for (const [i, value] of got.entries()) worst = Math.max(worst, Math.abs(value - (want[i] ?? Number.NaN)));
  // Weights here are below 1, where float32 is 6e-8 apart; sums of a few products may be taken in another order.
  expect(worst, name).toBeLessThanOrEqual(1.5e-7);
}

describe('an adapter', () => {
  it.each(['lora', 'rslora'])('%s gives the weights that peft merged', async (name) => {
    const tuned = await openSource(join(GOLDEN, 'peft', name), { base });
    const golden = readTensors(join(GOLDEN, 'peft', `${name}-merged.safetensors`));
    expect([...tuned.tensors.keys()].sort()).toEqual([...golden.keys()].sort());
    for (const [tensor, want] of golden) expectClose(valuesOf(tuned.tensors.get(tensor)), want, tensor);
  });

  it('is W + alpha / r · B · A, or alpha / √r rank-stabilised, for any rank and alpha', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 5 }),
        fc.integer({ min: 1, max: 32 }),
        fc.boolean(),
        async (r, alpha, stable) => {
          const config = { ...CONFIG, r, lora_alpha: alpha, use_rslora: stable };
          const tuned = await openSource(await adapter(config, factors(r)), { base });
          const weight = valuesOf(base.tensors.get(`${MODULE}.weight`));
          const scale = alpha / (stable ? Math.sqrt(r) : r);
          const want = oracle(weight, ramp(r, IN).values, ramp(OUT, r).values, r, scale);
          const got = valuesOf(tuned.tensors.get(`${MODULE}.weight`));
          for (const [i, value] of got.entries())
            expect(Math.abs(value - (want[i] ?? 0))).toBeLessThan(1e-6 * (1 + scale));
        },
      ),
      { numRuns: 20 },
    );
  });

  it('takes rank and alpha from the first pattern that is the end of a module name', async () => {
    const patterns = {
      rank_pattern: { 'layers.1.mlp.up_proj': 5, 'mlp\\.(up|gate)_proj': 3, [MODULE]: 4 },
      alpha_pattern: { up_proj: 12, p_proj: 99 },
    };
    const tuned = await openSource(await adapter({ ...CONFIG, ...patterns }, factors(3)), { base });
    const weight = valuesOf(base.tensors.get(`${MODULE}.weight`));
    const want = oracle(weight, ramp(3, IN).values, ramp(OUT, 3).values, 3, 12 / 3);
    expectClose(valuesOf(tuned.tensors.get(`${MODULE}.weight`)), want, MODULE);
  });

  it('replaces what modules_to_save names, and leaves every other tensor the base’s own', async () => {
    const norm = ramp(HIDDEN);
    const tuned = await openSource(await adapter(CONFIG, { 'base_model.model.model.norm.weight': norm }), { base });
    expect(valuesOf(tuned.tensors.get('model.norm.weight'))).toEqual(norm.values);
    for (const [name, tensor] of base.tensors)
      if (name !== 'model.norm.weight') expect(tuned.tensors.get(name)).toBe(tensor);
  });

  it('of an embedding adds A and B transposed', async () => {
    const [a, b] = [ramp(2, VOCAB), ramp(HIDDEN, 2)];
    const folder = await adapter(CONFIG, {
      'base_model.model.model.embed_tokens.lora_embedding_A': a,
      'base_model.model.model.embed_tokens.lora_embedding_B': b,
    });
    const before = valuesOf(base.tensors.get('model.embed_tokens.weight'));
    const want = Array.from(before, (value, i) => {
      const [token, col] = [Math.floor(i / HIDDEN), i % HIDDEN];
      const at = (k: number) => (a.values[k * VOCAB + token] ?? 0) * (b.values[col * 2 + k] ?? 0);
      return value + 3 * (at(0) + at(1));
    });
    const tuned = await openSource(folder, { base });
    expectClose(valuesOf(tuned.tensors.get('model.embed_tokens.weight')), want, 'embedding');
  });

  it('with fan_in_fan_out is the same: peft resets it for linear layers', async () => {
    const plain = await openSource(await adapter(CONFIG, factors(2)), { base });
    const flagged = await openSource(await adapter({ ...CONFIG, fan_in_fan_out: true }, factors(2)), { base });
    const name = `${MODULE}.weight`;
    expect(valuesOf(flagged.tensors.get(name))).toEqual(valuesOf(plain.tensors.get(name)));
  });

  it('has a digest of its own, that says what was merged', async () => {
    const tuned = await openSource(await adapter(CONFIG, factors(2)), { base });
    expect(await tuned.digest()).not.toBe(await base.digest());
    expect(await tuned.digest()).toBe(await (await openSource(tuned.dir, { base })).digest());
  });
});

describe('what can’t be merged is refused by name', () => {
  it.each([
    [{ use_dora: true }, /use_dora is not supported/],
    [{ target_parameters: ['x'] }, /target_parameters is not supported/],
    [{ peft_type: 'IA3' }, /type "IA3" is not supported/],
    [{ bias: 'all' }, /bias "all" is not supported/],
    [{ init_lora_weights: 'pissa_niter_4' }, /init_lora_weights "pissa_niter_4" changed the base/],
    [{ alpha_pattern: { '(': 1 } }, /"\(" in adapter_config.json is no regular expression/],
    [{ r: 3 }, /lora_A.weight is \[2,48\], the base and adapter_config.json need \[3,48\] \(rank 3\)/],
  ])('%j', async (fields, message) => {
    await expect(openSource(await adapter({ ...CONFIG, ...fields }, factors(2)), { base })).rejects.toThrow(message);
  });

  it('tensors of an unknown kind or module, of another shape, or without their other factor', async () => {
    const refused = async (tensors: Tensors, message: RegExp) =>
      expect(openSource(await adapter(CONFIG, tensors), { base })).rejects.toThrow(message);
    await refused(factors(2, 'model.layers.9.mlp.up_proj'), /layers\.9\.mlp\.up_proj\.weight has no counterpart in/);
    await refused({ ...factors(2), 'x.lora_magnitude_vector': ramp(OUT) }, /x\.lora_magnitude_vector is no part of/);
    await refused({ 'base_model.model.model.norm.weight': ramp(49) }, /norm\.weight is \[49\].* need \[48\]/);
    await refused({ [`${MODULE}.lora_A.weight`]: ramp(2, IN) }, /lora_A\.weight lacks its other factor/);
  });

  it('an adapter without a base, a folder that isn’t there, and weights as pickle', async () => {
    const folder = await adapter(CONFIG, factors(2));
    await expect(openSource(folder)).rejects.toThrow(/is an adapter: it needs a base/);
    await expect(openSource(join(dir, 'nowhere'))).rejects.toThrow(/nowhere is no folder; expected/);
    await rename(join(folder, 'adapter_model.safetensors'), join(folder, 'adapter_model.bin'));
    await expect(openSource(folder, { base })).rejects.toThrow(/pickle \(adapter_model\.bin\)/);
    const pickled = await mkdtemp(join(dir, 'pickle-'));
    await cp(join(GOLDEN, 'merge/base/config.json'), join(pickled, 'config.json'));
    await writeFile(join(pickled, 'pytorch_model.bin'), await readFile(join(pickled, 'config.json')));
    await expect(openSource(pickled)).rejects.toThrow(/pickle \(pytorch_model\.bin\)/);
  });
});

describe('MODEL+ADAPTER', () => {
  it('is the adapter on that model, whatever the base; a folder with a plus in its name is itself', async () => {
    const folder = await adapter(CONFIG, factors(2));
    const other = join(GOLDEN, 'merge/a');
    const [got, want] = [
      await openSource(`${other}+${folder}`, { base }),
      await openSource(folder, { base: await openCheckpoint(other) }),
    ];
    for (const [name, { data }] of want.tensors)
      expect(Buffer.compare(got.tensors.get(name)?.data ?? new Uint8Array(), data), name).toBe(0);
    const plus = join(dir, 'a+b');
    await cp(other, plus, { recursive: true });
    expect(await (await openSource(plus)).digest()).toBe(await (await openCheckpoint(other)).digest());
    await expect(openSource(`${other}+${other}`, { base })).rejects.toThrow(/after "\+" an adapter is expected/);
  });

  it('has its parts where the recipe stands', () => {
    expect(locateIn('/recipes', 'model+adapters/law')).toBe('/recipes/model+/recipes/adapters/law');
    expect(locateIn('/recipes', 'hf://org/base@v1+law')).toBe('hf://org/base@v1+/recipes/law');
  });
});
