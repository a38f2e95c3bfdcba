/**
 * Labelled prompts and token embeddings, as the trainer reads them.
 */
import { readFile } from 'node:fs/promises';
import { Problem, parseSafetensors } from '@signpost/contracts';
import { routerFeatures, WordPiece } from '@signpost/contracts/router';
import { z } from 'zod';
import { readJsonLines } from '../json-lines.ts';

const rowSchema = z
  .looseObject({ text: z.string(), label: z.string().min(1), source: z.string().default('unknown') })
  .transform(({ text, label, source }) => ({ text, label, source }));

export interface LabelledPrompt {
  readonly text: string;
  readonly label: string;
  /** Where it comes from; figures are reported by it. */
  readonly source: string;
}

/**
 * Reads JSON lines `{text, label, source?}`.
 *
 * @throws Problem naming the file and line that is malformed.
 */
export function readPrompts(path: string): Promise<LabelledPrompt[]> {
  return readJsonLines(path, rowSchema, '{"text": string, "label": string, "source"?: string}');
}

/** Token embeddings: int8 rows, each with its scale. */
export interface TokenEmbedding {
  readonly rows: number;
  readonly dim: number;
  readonly weight: Int8Array; // (rows, dim)
  readonly scale: Float32Array; // (rows)
}

/** @throws Problem when the file doesn't hold `weight` I8 (n, d) and `scale` F32 (n). */
export async function readEmbedding(path: string): Promise<TokenEmbedding> {
  const bytes = new Uint8Array(await readFile(path));
  const { tensors } = parseSafetensors(bytes, path);
  const [weight, scale] = ['weight', 'scale'].map((name) => tensors.find((tensor) => tensor.name === name));
  const [rows, dim] = weight?.shape ?? [];
  if (
    weight?.dtype !== 'I8' ||
    scale?.dtype !== 'F32' ||
    rows === undefined ||
    dim === undefined ||
    scale.shape[0] !== rows
  ) {
    throw new Problem(`${path}: expected "weight" I8 [n, d] and "scale" F32 [n]`);
  }
  return {
    rows,
    dim,
    weight: new Int8Array(bytes.slice(weight.offset, weight.offset + weight.bytes).buffer),
    scale: new Float32Array(bytes.slice(scale.offset, scale.offset + scale.bytes).buffer),
  };
}

/** Mean and maximum of the tokens' embeddings, (2 · dim). */
function poolTokens({ dim, weight, scale }: TokenEmbedding, tokenIds: Int32Array): Float32Array {
  const pooled = new Float32Array(2 * dim).fill(Number.NEGATIVE_INFINITY, dim);
  for (const id of tokenIds) {
    const factor = scale[id] ?? 0;
    for (let i = 0; i < dim; i++) {
      const value = (weight[id * dim + i] ?? 0) * factor;
      pooled[i] = (pooled[i] ?? 0) + value / tokenIds.length;
      pooled[dim + i] = Math.max(pooled[dim + i] ?? 0, value);
    }
  }
  return pooled;
}

/** Token ids of a text, by a `tokenizer.json`, as the edge takes them. @throws Problem for a tokenizer that isn't BERT's. */
export async function readTokenizer(path: string): Promise<(text: string) => number[]> {
  const tokenizer = new WordPiece(JSON.parse(await readFile(path, 'utf8')), path);
  return (text) => tokenizer.encode(text);
}

/** A prompt as the network takes it, pooled features not yet standardised. */
export interface PreparedPrompt extends LabelledPrompt {
  readonly pooled: Float32Array; // (2 · dim)
  readonly hashIds: Int32Array;
}

export function prepare(
  prompts: readonly LabelledPrompt[],
  embedding: TokenEmbedding,
  encode: (text: string) => number[],
): PreparedPrompt[] {
  return prompts.map((prompt) => {
    const { tokenIds, hashIds } = routerFeatures(prompt.text, encode);
    return { ...prompt, pooled: poolTokens(embedding, tokenIds), hashIds };
  });
}
