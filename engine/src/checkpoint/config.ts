/**
 * A checkpoint's `config.json` as the numbers the forward pass needs.
 *
 * Both styles transformers writes are read: `rope_parameters` (version 5) and `rope_theta` with `rope_scaling` (before). What this engine
 * would compute differently than transformers does is refused by name.
 */
import { Problem, parseWith } from '@signpost/contracts';
import { z } from 'zod';

/** Positions rotate by `position / wavelength`; `llama3` and `linear` stretch wavelengths for longer contexts. */
type RopeScaling =
  | { readonly kind: 'none' }
  | { readonly kind: 'linear'; readonly factor: number }
  | {
      readonly kind: 'llama3';
      readonly factor: number;
      readonly lowFreqFactor: number;
      readonly highFreqFactor: number;
      readonly originalPositions: number;
    };

export interface ModelConfig {
  readonly family: 'llama' | 'mistral' | 'qwen2' | 'qwen3';
  readonly hidden: number;
  readonly ffn: number;
  readonly layers: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly vocabSize: number;
  readonly maxPositions: number;
  readonly rmsNormEps: number;
  readonly ropeTheta: number;
  readonly ropeScaling: RopeScaling;
  /** Positions a layer looks back over, its own included; 0 for all. */
  readonly slidingWindow: number;
  readonly tiedHead: boolean;
  readonly qkvBias: boolean;
  readonly outBias: boolean;
  readonly mlpBias: boolean;
  readonly qkNorm: boolean;
  readonly eosIds: readonly number[];
}

const size = z.number().int().positive();
const ropeSchema = z.looseObject({
  rope_theta: z.number().positive().optional(),
  rope_type: z.string().optional(),
  type: z.string().optional(),
  factor: z.number().positive().optional(),
  low_freq_factor: z.number().positive().optional(),
  high_freq_factor: z.number().positive().optional(),
  original_max_position_embeddings: size.optional(),
});

const configSchema = z.looseObject({
  model_type: z.enum(['llama', 'mistral', 'qwen2', 'qwen3'], {
    error: (issue) => `model family "${String(issue.input)}" is not supported; supported: llama, mistral, qwen2, qwen3`,
  }),
  hidden_size: size,
  intermediate_size: size,
  num_hidden_layers: size,
  num_attention_heads: size,
  num_key_value_heads: size.nullish(),
  head_dim: size.nullish(),
  vocab_size: size,
  max_position_embeddings: size,
  rms_norm_eps: z.number().positive(),
  hidden_act: z.literal('silu', { error: 'only the activation "silu" is supported' }),
  rope_theta: z.number().positive().nullish(),
  rope_scaling: ropeSchema.nullish(),
  rope_parameters: ropeSchema.nullish(),
  sliding_window: size.nullish(),
  use_sliding_window: z.boolean().nullish(),
  attention_bias: z.boolean().nullish(),
  mlp_bias: z.boolean().nullish(),
  tie_word_embeddings: z.boolean().nullish(),
  eos_token_id: z.union([z.number().int(), z.array(z.number().int())]).nullish(),
});

/**
 * Reads a parsed `config.json`.
 *
 * @throws Problem naming the field that is missing, wrong, or asks for what this engine doesn't do.
 */
export function parseModelConfig(json: unknown, where: string): ModelConfig {
  const raw = parseWith(configSchema, json, where);
  const family = raw.model_type;
  const rope = raw.rope_parameters ?? raw.rope_scaling ?? {};
  const eos = raw.eos_token_id ?? [];
  if (raw.use_sliding_window === true) throw new Problem(`${where}: use_sliding_window by layer is not supported`);
  const kvHeads = raw.num_key_value_heads ?? raw.num_attention_heads;
  if (raw.num_attention_heads % kvHeads !== 0) {
    throw new Problem(`${where}: ${raw.num_attention_heads} heads can't share ${kvHeads} key-value heads evenly`);
  }
  const headDim = raw.head_dim ?? raw.hidden_size / raw.num_attention_heads;
  if (headDim % 2 !== 0) throw new Problem(`${where}: head size ${headDim} is not even, rotary embedding needs pairs`);
  return {
    family,
    hidden: raw.hidden_size,
    ffn: raw.intermediate_size,
    layers: raw.num_hidden_layers,
    heads: raw.num_attention_heads,
    kvHeads,
    headDim,
    vocabSize: raw.vocab_size,
    maxPositions: raw.max_position_embeddings,
    rmsNormEps: raw.rms_norm_eps,
    ropeTheta: rope.rope_theta ?? raw.rope_theta ?? 10_000,
    ropeScaling: ropeScaling(rope, where),
    slidingWindow: family === 'mistral' ? (raw.sliding_window ?? 0) : 0,
    tiedHead: raw.tie_word_embeddings ?? false,
    qkvBias: family === 'qwen2' || (raw.attention_bias ?? false),
    outBias: family !== 'qwen2' && (raw.attention_bias ?? false),
    mlpBias: family === 'llama' && (raw.mlp_bias ?? false),
    qkNorm: family === 'qwen3',
    eosIds: typeof eos === 'number' ? [eos] : eos,
  };
}

function ropeScaling(rope: z.output<typeof ropeSchema>, where: string): RopeScaling {
  const kind = rope.rope_type ?? rope.type ?? 'default';
  const need = (name: 'factor' | 'low_freq_factor' | 'high_freq_factor' | 'original_max_position_embeddings') => {
    const value = rope[name];
    if (value === undefined) throw new Problem(`${where}: rope type "${kind}" needs ${name}`);
    return value;
  };
  switch (kind) {
    case 'default':
      return { kind: 'none' };
    case 'linear':
      return { kind: 'linear', factor: need('factor') };
    case 'llama3':
      return {
        kind: 'llama3',
        factor: need('factor'),
        lowFreqFactor: need('low_freq_factor'),
        highFreqFactor: need('high_freq_factor'),
        originalPositions: need('original_max_position_embeddings'),
      };
    default:
      throw new Problem(`${where}: rope type "${kind}" is not supported; supported: default, linear, llama3`);
  }
}
