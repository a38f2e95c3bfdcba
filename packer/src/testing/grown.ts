import { cp, mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type AddedToken, encodeHeader, type TensorSpec } from '@signpost/contracts';
import { brainToFloat, type CheckpointTensor, floatToBrain, openCheckpoint } from '@signpost/engine';
import { noise } from '@signpost/kernels/testing';
import { decodeFloats, encodeFloats } from '../source/floats.ts';

export interface Growth {
  /** Of everything random; the same seed gives the same checkpoint. */
  readonly seed: number;
  /** Rows added to the embedding, and to the head if it has one of its own. */
  readonly rows: number;
  /** Tokens by id. */
  readonly tokens?: readonly AddedToken[];
  /** Ids whose rows the new tokens' are made of, one for each; random rows where left out. */
  readonly like?: readonly number[];
  /** What such a row is multiplied by. */
  readonly scale?: number;
  /** How much the other weights are changed, relative to each; a seeded noise. */
  readonly noise?: number;
  /** Fields of `tokenizer_config.json`. */
  readonly tokenizerConfig?: Readonly<Record<string, unknown>>;
  /** Fields of `generation_config.json`. */
  readonly generationConfig?: Readonly<Record<string, unknown>>;
}

/** Writes a fine-tune of the checkpoint in `from` (BF16 or F32) that has added tokens, as trainers write them. */
export async function growCheckpoint(from: string, out: string, growth: Growth): Promise<void> {
  const { tensors, config } = await openCheckpoint(from);
  const next = noise(growth.seed);
  const grown = [...tensors.values()].map((tensor) => grownTensor(tensor, config.vocabSize, growth, next));
  await mkdir(out, { recursive: true });
  await cp(from, out, { recursive: true, filter: (path) => !/\.safetensors/.test(path) });
  await writeFile(
    join(out, 'model.safetensors'),
    Buffer.concat([
      encodeHeader(
        grown.map(({ spec }) => spec),
        {},
      ),
      ...grown.map(({ data }) => data),
    ]),
  );
  await change(join(out, 'config.json'), (json) => ({ ...json, vocab_size: config.vocabSize + growth.rows }));
  if (growth.tokens !== undefined)
    await change(join(out, 'tokenizer.json'), (json) => ({
      ...json,
      added_tokens: [...(json.added_tokens as AddedToken[]), ...(growth.tokens ?? [])],
    }));
  if (growth.tokenizerConfig !== undefined)
    await change(join(out, 'tokenizer_config.json'), (json) => ({ ...json, ...growth.tokenizerConfig }));
  if (growth.generationConfig !== undefined)
    await change(join(out, 'generation_config.json'), (json) => ({ ...json, ...growth.generationConfig }));
}

function grownTensor(
  { info: { name, dtype, shape }, data }: CheckpointTensor,
  vocabSize: number,
  { rows, like, scale = 1, noise: amount = 0 }: Growth,
  next: () => number,
): { spec: TensorSpec; data: Uint8Array } {
  if (dtype !== 'BF16' && dtype !== 'F32') throw new Error(`${name} is ${dtype}`);
  const values = decodeFloats(dtype, data).map((value) => value * (1 + amount * next()));
  const isTokens = shape.length === 2 && shape[0] === vocabSize && /(embed_tokens|lm_head)\.weight$/.test(name);
  if (!isTokens) return { spec: { name, dtype, shape }, data: encodeFloats(dtype, values) };
  const columns = shape[1] ?? 0;
  // What BF16 holds, so that nothing is lost when it is packed.
  const added = Float32Array.from({ length: rows * columns }, (_, i) => {
    const id = like?.[Math.floor(i / columns)];
    const value = id === undefined ? next() / 4 : scale * (values[id * columns + (i % columns)] ?? 0);
    return brainToFloat(floatToBrain(value));
  });
  return {
    spec: { name, dtype, shape: [vocabSize + rows, columns] },
    data: Buffer.concat([encodeFloats(dtype, values), encodeFloats(dtype, added)]),
  };
}

async function change(path: string, edit: (json: Record<string, unknown>) => object): Promise<void> {
  await writeFile(path, JSON.stringify(edit(JSON.parse(await readFile(path, 'utf8')))));
}
