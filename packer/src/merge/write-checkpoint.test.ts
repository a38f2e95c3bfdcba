/**
 * Exported and merged checkpoints as files: loaded again by the engine, against the fused path.
 */
import { cp, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Checkpoint, Model, openCheckpoint, openDelta, Session, type SlotWeight } from '@signpost/engine';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { pack } from '../pack/pack.ts';
import { GOLDEN, valuesOf, writeTensors } from '../source/fixtures.ts';
import { mergeCommand, mixtureRecipe } from './command.ts';
import { openMerge, ownDtype } from './merge.ts';
import { type WriteOptions, writeCheckpoint } from './write-checkpoint.ts';

const BASE = join(GOLDEN, 'merge/base');
const TOKENS = [1, 17, 42, 90, 5, 33, 64, 2, 71];
const NAMES = ['a', 'b', 'c'];

let dir: string;
let base: Checkpoint;
let deltas: string[];
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'signpost-write-'));
  base = await openCheckpoint(BASE);
  deltas = NAMES.map((name) => join(dir, `${name}.delta.safetensors`));
  for (const [index, name] of NAMES.entries()) {
    const tuned = await openCheckpoint(join(GOLDEN, 'merge', name));
    await pack(base, tuned, { name, out: deltas[index] ?? '', scale: 'row', planes: 1 });
  }
});
afterAll(() => rm(dir, { recursive: true }));

const plain = (out: string, options: Partial<WriteOptions> = {}): WriteOptions => ({
  out: join(dir, out),
  dtypeOf: () => 'F32',
  maxShardBytes: 1e9,
  ...options,
});

function expertsOf(weights: readonly number[]) {
  const chosen = weights.map((weight, index) => ({ location: deltas[index] ?? '', weight }));
  return openMerge(mixtureRecipe(BASE, chosen));
}

async function logitsOf(checkpoint: Checkpoint, weights: readonly number[] = []): Promise<Float32Array> {
  const model = await Model.load(checkpoint, {
    device: 'reference',
    slots: 3,
    kvBlocks: 2,
    blockTokens: 8,
    maxRows: 16,
    maxLogitRows: 16,
  });
  const mixture = weights.map((weight, slot): SlotWeight => ({ slot, weight }));
  for (const { slot } of mixture) {
    const path = deltas[slot] ?? '';
    model.loadExpert(slot, openDelta(new Uint8Array(await readFile(path)), path));
  }
  const logits = await new Session(model, 2, mixture).append(TOKENS, 'all');
  model.close();
  return logits.slice();
}

function worst(a: Float32Array, b: Float32Array): number {
  expect(a.length).toBe(b.length);
  return a.reduce((max, value, i) => Math.max(max, Math.abs(value - (b[i] ?? Number.NaN))), 0);
}

describe('an exported expert', () => {
  it.each([[[1]], [[1, 0.3]], [[0.5, -0.25, 1.5]]])(
    'or mixture of weights %j has the logits of the fused path',
    async (weights) => {
      const { checkpoint } = await expertsOf(weights);
      const { out } = await writeCheckpoint(checkpoint, plain(`fused-${weights}`));
      const exported = await logitsOf(await openCheckpoint(out));
      expect(worst(exported, await logitsOf(base, weights))).toBeLessThan(1e-4);
      // The experts do change the answer: the comparison says something.
      expect(worst(exported, await logitsOf(base))).toBeGreaterThan(0.1);
    },
  );

  it('in shards is the same as in one file, each within the size unless one tensor alone is larger', async () => {
    const { checkpoint } = await expertsOf([1]);
    const [whole, parts] = [
      await writeCheckpoint(checkpoint, plain('whole')),
      await writeCheckpoint(checkpoint, plain('parts', { maxShardBytes: 32_000 })),
    ];
    expect([whole.shards, whole.bytes]).toEqual([1, parts.bytes]);
    expect(parts.shards).toBeGreaterThan(3);
    const [one, many] = [await openCheckpoint(whole.out), await openCheckpoint(parts.out)];
    expect(await many.digest()).toBe(await one.digest());
    const index = JSON.parse(await readFile(join(parts.out, 'model.safetensors.index.json'), 'utf8')) as {
      metadata: { total_size: number };
      weight_map: Record<string, string>;
    };
    expect(index.metadata.total_size).toBe(parts.bytes);
    const sizes: Record<string, number> = {};
    for (const [name, file] of Object.entries(index.weight_map))
      sizes[file] = (sizes[file] ?? 0) + (many.tensors.get(name)?.info.bytes ?? 0);
    expect(Math.max(...Object.values(sizes))).toBeLessThanOrEqual(32_000);
  });

  it('is rounded to the dtype that was chosen, and config.json says which', async () => {
    const { checkpoint } = await expertsOf([1]);
    const exact = valuesOf(checkpoint.tensors.get('lm_head.weight'));
    for (const [dtype, name, ulp] of [
      ['BF16', 'bfloat16', 2 ** -8],
      ['F16', 'float16', 2 ** -11],
    ] as const) {
      const { out } = await writeCheckpoint(checkpoint, plain(name, { dtypeOf: () => dtype }));
      const written = await openCheckpoint(out);
      expect(JSON.parse(await readFile(join(out, 'config.json'), 'utf8'))).toMatchObject({
        torch_dtype: name,
        dtype: name,
      });
      expect(written.tensors.get('lm_head.weight')?.info.dtype).toBe(dtype);
      for (const [i, value] of valuesOf(written.tensors.get('lm_head.weight')).entries())
        expect(Math.abs(value - (exact[i] ?? 0))).toBeLessThanOrEqual(Math.abs(exact[i] ?? 0) * ulp + 2 ** -25);
    }
  });

  it('has the base’s dtypes and tokenizer files', async () => {
    const folder = join(dir, 'with-tokenizer');
    await cp(BASE, folder, { recursive: true });
    const files = ['tokenizer.json', 'tokenizer_config.json', 'generation_config.json'];
    for (const file of files)
      await cp(join(import.meta.dirname, '../../../models/demo/base', file), join(folder, file));
    const { base: opened, checkpoint } = await openMerge(mixtureRecipe(folder, []));
    const { out } = await writeCheckpoint(checkpoint, plain('own', { dtypeOf: ownDtype(opened) }));
    for (const file of files) expect(await readFile(join(out, file))).toEqual(await readFile(join(folder, file)));
    expect(await (await openCheckpoint(out)).digest()).toBe(await base.digest());
  });
});

describe('writing', () => {
  it('leaves nothing behind when it is stopped', async () => {
    const { checkpoint } = await expertsOf([1]);
    const before = await readdir(dir);
    const controller = new AbortController();
    const options = plain('stopped', { signal: controller.signal, onProgress: () => controller.abort() });
    await expect(writeCheckpoint(checkpoint, options)).rejects.toThrow(/abort/);
    expect(await readdir(dir)).toEqual(before);
  });

  it('reports bytes up to the whole', async () => {
    const { checkpoint } = await expertsOf([1]);
    const seen: number[] = [];
    const { bytes } = await writeCheckpoint(
      checkpoint,
      plain('progress', { onProgress: (done, total) => seen.push(done / total) }),
    );
    expect(seen).toEqual(seen.toSorted((a, b) => a - b));
    expect([seen.at(-1), bytes]).toEqual([
      1,
      [...checkpoint.tensors.values()].reduce((sum, t) => sum + t.info.bytes, 0),
    ]);
  });

  it('refuses a folder in use, and values that are not finite or too large for the dtype', async () => {
    const { checkpoint } = await expertsOf([1]);
    await expect(writeCheckpoint(checkpoint, plain('.'))).rejects.toThrow(/is not empty; name a new folder/);
    const folder = join(dir, 'large');
    await cp(join(GOLDEN, 'merge/a'), folder, { recursive: true });
    const write = async (value: number) => {
      const tensors = [...(await openCheckpoint(join(GOLDEN, 'merge/a'))).tensors.values()];
      await writeTensors(
        join(folder, 'model.safetensors'),
        Object.fromEntries(
          tensors.map((tensor) => {
            const values = valuesOf(tensor).slice();
            if (tensor.info.name === 'model.norm.weight') values[7] = value;
            return [tensor.info.name, { shape: tensor.info.shape, values }];
          }),
        ),
      );
      return writeCheckpoint(await openCheckpoint(folder), plain(`refused-${value}`, { dtypeOf: () => 'F16' }));
    };
    await expect(write(1e6)).rejects.toThrow(/model\.norm\.weight holds 1000000, too large for float16/);
    await expect(write(Number.NaN)).rejects.toThrow(/model\.norm\.weight is not finite/);
    await write(65_504);
  });
});

describe('the command line', () => {
  it('leaves the recipe beside what it made', async () => {
    const recipe = join(dir, 'recipe.yaml');
    const text = `merge_method: linear\nmodels:\n  - model: ${BASE}\n    parameters: { weight: 1 }\n`;
    await writeFile(recipe, text);
    await mergeCommand().parseAsync([recipe, '--out', join(dir, 'made'), '--json'], { from: 'user' });
    expect(await readFile(join(dir, 'made/merge.yaml'), 'utf8')).toBe(text);
  });
});
