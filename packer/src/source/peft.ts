/**
 * A PEFT LoRA adapter on its base, as the checkpoint that `merge_and_unload` would give.
 *
 * `W + s · B · A` with `s = alpha / r`, or `alpha / √r` for a rank-stabilised adapter (arXiv 2106.09685; arXiv 2312.03732), computed in float32 when
 * a tensor is read. Tensor names, patterns and scaling follow huggingface/peft. `fan_in_fan_out` needs nothing: peft itself resets it for the
 * plain linear layers that these model families consist of.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { Problem, parseWith } from '@signpost/contracts';
import { Checkpoint, type CheckpointTensor, mapTensors, type ParamDtype, readJson } from '@signpost/engine';
import { z } from 'zod';
import { isSame } from '../pack/blocks.ts';
import { ComputedTensor, type RowReader, rowReader, rowShape } from './floats.ts';

export const ADAPTER_CONFIG = 'adapter_config.json';
const ADAPTER_WEIGHTS = 'adapter_model.safetensors';
const ADAPTER_PICKLE = 'adapter_model.bin';
const PREFIX = 'base_model.model.';
const [EMBEDDING, HEAD] = ['model.embed_tokens.weight', 'lm_head.weight'];

/** What changes the weights in a way that isn't W + s·B·A, and the value that means "not used". */
const UNSUPPORTED = [
  'use_dora',
  'use_qalora',
  'use_bdlora',
  'lora_bias',
  'alora_invocation_tokens',
  'trainable_token_indices',
  'target_parameters',
  'layer_replication',
  'arrow_config',
  'kasa_config',
  'monteclora_config',
  'velora_config',
] as const;
/** Initialisations that move part of the base into the adapter: what is left of it is not the base. */
const MOVES_BASE = /^(pissa|olora|corda|loftq|lora_ga)/;

const pattern = z.record(z.string(), z.number().positive()).nullish();
const adapterSchema = z.looseObject({
  peft_type: z.literal('LORA', {
    error: (issue) => `an adapter of type "${String(issue.input)}" is not supported; supported: LORA`,
  }),
  r: z.number().int().positive(),
  lora_alpha: z.number(),
  use_rslora: z.boolean().nullish(),
  rank_pattern: pattern,
  alpha_pattern: pattern,
  bias: z
    .literal('none', {
      error: (issue) => `bias "${String(issue.input)}" is not supported; train the adapter with bias "none"`,
    })
    .nullish(),
});
type AdapterConfig = z.output<typeof adapterSchema>;

/** The two factors of one weight's change, and how they were stored. */
interface Factors {
  readonly a: CheckpointTensor; // (r, in); of an embedding (r, vocab)
  readonly b: CheckpointTensor; // (out, r); of an embedding (hidden, r)
  readonly kind: 'linear' | 'embedding';
}

/**
 * Opens the adapter in `dir` on `base`.
 *
 * @throws Problem when the adapter is of an unsupported kind, or holds a tensor that the base has no counterpart of or that has another shape.
 */
export async function openAdapter(dir: string, base: Checkpoint): Promise<Checkpoint> {
  const config = await readAdapterConfig(join(dir, ADAPTER_CONFIG));
  const path = join(dir, ADAPTER_WEIGHTS);
  if (!existsSync(path)) {
    throw new Problem(
      existsSync(join(dir, ADAPTER_PICKLE))
        ? `${dir} holds its weights as pickle (${ADAPTER_PICKLE}), which can run code; save the adapter as safetensors`
        : `${dir} holds no ${ADAPTER_WEIGHTS}`,
    );
  }
  const tensors = new Map(base.tensors);
  const weightOf = (name: string) => {
    const weight = tensors.get(name);
    if (weight === undefined) throw new Problem(`${path}: ${name} has no counterpart in ${base.dir}`);
    return weight;
  };
  const { saved, factors } = groupTensors(mapTensors(path), path);
  if (base.config.tiedHead) dropTiedHead(saved, path);
  for (const [name, tensor] of saved) tensors.set(name, replaced(tensor, weightOf(name), path));
  // After what was saved whole: that is what an adapter of the same module was trained on.
  for (const [module, pair] of factors) {
    const name = `${module}.weight`;
    tensors.set(name, merged(module, pair, weightOf(name), config, path));
  }
  // Whoever adds tokens saves the embedding whole.
  const vocabSize = saved.get(EMBEDDING)?.info.shape[0] ?? base.config.vocabSize;
  const origin = { paths: [...base.origin.paths, dir], method: base.origin.method };
  return new Checkpoint(dir, { ...base.config, vocabSize }, tensors, origin);
}

/** peft saves the head beside a resized embedding, also where they are one. */
function dropTiedHead(saved: Map<string, CheckpointTensor>, where: string): void {
  const [embedding, head] = [saved.get(EMBEDDING), saved.get(HEAD)];
  if (head === undefined) return;
  if (embedding === undefined || !isSame(embedding, head))
    throw new Problem(
      `${where}: tensor ${head.info.name} differs from the embedding, and the base's head is its embedding`,
    );
  saved.delete(HEAD);
}

async function readAdapterConfig(path: string): Promise<AdapterConfig> {
  const config = parseWith(adapterSchema, await readJson(path), path);
  for (const field of UNSUPPORTED) {
    const value = config[field];
    if (value !== undefined && value !== null && value !== false)
      throw new Problem(`${path}: ${field} is not supported; merge the adapter with peft and give the merged folder`);
  }
  const init = config.init_lora_weights;
  if (typeof init === 'string' && MOVES_BASE.test(init)) {
    throw new Problem(
      `${path}: init_lora_weights "${init}" changed the base; convert the adapter with peft (path_initial_model_for_weight_conversion) first`,
    );
  }
  return config;
}

const FACTOR = /^(?<module>.+)\.lora_(?:(?<linear>[AB])\.weight|embedding_(?<embedding>[AB]))$/;
/** What `modules_to_save` names, and embeddings that peft saves of its own accord. */
const SAVED = /^(?<module>.+?)(?:\.base_layer)?\.(?<param>weight|bias)$/;

/** The adapter's tensors: those saved whole by the base's name, and pairs of factors by module. */
function groupTensors(
  tensors: readonly CheckpointTensor[],
  where: string,
): { saved: Map<string, CheckpointTensor>; factors: Map<string, Factors> } {
  const saved = new Map<string, CheckpointTensor>();
  const factors = new Map<string, Factors>();
  const waiting = new Map<string, CheckpointTensor>();
  for (const tensor of tensors) {
    const full = tensor.info.name;
    const name = full.startsWith(PREFIX) ? full.slice(PREFIX.length) : full;
    const { module, linear, embedding } = FACTOR.exec(name)?.groups ?? {};
    if (module === undefined) {
      const whole = name.includes('.lora_') ? undefined : SAVED.exec(name)?.groups;
      if (whole === undefined) throw new Problem(`${where}: tensor ${full} is no part of a LoRA adapter`);
      saved.set(`${whole.module}.${whole.param}`, tensor);
      continue;
    }
    const other = waiting.get(module);
    if (other === undefined) waiting.set(module, tensor);
    else {
      waiting.delete(module);
      const [a, b] = (linear ?? embedding) === 'A' ? [tensor, other] : [other, tensor];
      factors.set(module, { a, b, kind: linear === undefined ? 'embedding' : 'linear' });
    }
  }
  for (const lone of waiting.values()) throw new Problem(`${where}: tensor ${lone.info.name} lacks its other factor`);
  return { saved, factors };
}

function replaced(whole: CheckpointTensor, weight: CheckpointTensor, where: string): CheckpointTensor {
  const { name, shape } = weight.info;
  const [rows, ...rest] = whole.info.shape;
  const mayGrow = name === EMBEDDING || name === HEAD;
  if (rest.join() !== shape.slice(1).join() || (rows !== shape[0] && !mayGrow))
    throw mismatch(whole, `[${shape}]`, where);
  return { info: { ...whole.info, name: weight.info.name }, data: whole.data };
}

function merged(
  module: string,
  { a, b, kind }: Factors,
  weight: CheckpointTensor,
  config: AdapterConfig,
  where: string,
): CheckpointTensor {
  const { rows: out, cols: inDim } = rowShape(weight.info.shape);
  const rank = config.rank_pattern?.[patternKey(config.rank_pattern, module, where)] ?? config.r;
  const alpha = config.alpha_pattern?.[patternKey(config.alpha_pattern, module, where)] ?? config.lora_alpha;
  const scale = alpha / (config.use_rslora === true ? Math.sqrt(rank) : rank);
  const [aShape, bShape] =
    kind === 'linear'
      ? [
          [rank, inDim],
          [out, rank],
        ]
      : [
          [rank, out],
          [inDim, rank],
        ];
  if (a.info.shape.join() !== aShape.join()) throw mismatch(a, `[${aShape}] (rank ${rank})`, where);
  if (b.info.shape.join() !== bShape.join()) throw mismatch(b, `[${bShape}] (rank ${rank})`, where);
  const base = rowReader(weight, floatDtype(weight, where));
  const [rowsOfA, rowsOfB] = [rowReader(a, floatDtype(a, where)), rowReader(b, floatDtype(b, where))];
  // An embedding's factors stand transposed: row v of its change is Σ_k A[k, v] · B[:, k].
  const product: RowReader =
    kind === 'linear'
      ? (begin, end) => lowRank(rowsOfB(begin, end), rowsOfA(0, rank), rank, inDim)
      : (begin, end) =>
          lowRank(
            transposed(rowsOfA(0, rank), rank, out, begin, end),
            transposed(rowsOfB(0, inDim), inDim, rank),
            rank,
            inDim,
          );
  return new ComputedTensor(weight.info.name, weight.info.shape, (begin, end) => {
    const change = product(begin, end);
    const before = base(begin, end);
    for (let i = 0; i < change.length; i++) change[i] = (before[i] ?? 0) + scale * (change[i] ?? 0);
    return change;
  });
}

/** `left · right` of (rows, rank) and (rank, cols), each row summed in float64. */
function lowRank(left: Float32Array, right: Float32Array, rank: number, cols: number): Float32Array {
  const rows = left.length / rank;
  const product = new Float32Array(rows * cols);
  const sums = new Float64Array(cols);
  for (let row = 0; row < rows; row++) {
    sums.fill(0);
    for (let k = 0; k < rank; k++) {
      const factor = left[row * rank + k] ?? 0;
      const at = k * cols;
      for (let col = 0; col < cols; col++) sums[col] = (sums[col] ?? 0) + factor * (right[at + col] ?? 0);
    }
    product.set(sums, row * cols);
  }
  return product;
}

/** Columns `begin` … `end - 1` of a matrix (rows, cols) as rows. */
function transposed(matrix: Float32Array, rows: number, cols: number, begin = 0, end = cols): Float32Array {
  const out = new Float32Array((end - begin) * rows);
  for (let row = 0; row < rows; row++)
    for (let col = begin; col < end; col++) out[(col - begin) * rows + row] = matrix[row * cols + col] ?? 0;
  return out;
}

/** The first pattern that is a module's name, or its end after a dot: a regular expression, as peft matches it. */
function patternKey(patterns: Readonly<Record<string, number>>, module: string, where: string): string {
  for (const key of Object.keys(patterns)) {
    try {
      if (new RegExp(`^(.*\\.)?(${key})$`).test(module)) return key;
    } catch (cause) {
      throw new Problem(`${where}: the pattern "${key}" in ${ADAPTER_CONFIG} is no regular expression`, { cause });
    }
  }
  return module;
}

function floatDtype({ info }: CheckpointTensor, where: string): ParamDtype {
  if (info.dtype === 'BF16' || info.dtype === 'F16' || info.dtype === 'F32') return info.dtype;
  throw new Problem(`${where}: tensor ${info.name} is ${info.dtype}; supported: BF16, F16, F32`);
}

function mismatch({ info }: CheckpointTensor, expected: string, where: string): Problem {
  return new Problem(
    `${where}: tensor ${info.name} is [${info.shape}], the base and ${ADAPTER_CONFIG} need ${expected}`,
  );
}
