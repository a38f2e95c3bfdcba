/**
 * The base's parameters in execution order, and where each stands in the list.
 *
 * The order is that of the delta file: embedding, then layer by layer norm, q k v, o, norm, gate up, down; final norm, head.
 */
import type { ModelConfig } from '../checkpoint/config.ts';
import type { ParamFormat, ParamSpec } from '../device/device.ts';

/** A matrix with its optional bias, as ids in the parameter list. */
export interface LinearParams {
  readonly weight: number;
  readonly bias: number | undefined;
}

export interface LayerParams {
  readonly inputNorm: number;
  readonly q: LinearParams;
  readonly k: LinearParams;
  readonly v: LinearParams;
  /** Norms over one head, before rotation (Qwen3). */
  readonly qNorm: number | undefined;
  readonly kNorm: number | undefined;
  readonly o: LinearParams;
  readonly postNorm: number;
  readonly gate: LinearParams;
  readonly up: LinearParams;
  readonly down: LinearParams;
}

export interface ModelParams {
  readonly specs: readonly ParamSpec[];
  readonly embedding: number;
  readonly layers: readonly LayerParams[];
  readonly norm: number;
  /** The embedding itself where the head is tied. */
  readonly head: number;
}

export function modelParams(config: ModelConfig): ModelParams {
  const { hidden, ffn, heads, kvHeads, headDim, vocabSize } = config;
  const specs: ParamSpec[] = [];
  const add = (name: string, ...shape: [number] | [number, number]): number => specs.push({ name, shape }) - 1;
  const linear = (name: string, out: number, inDim: number, biased: boolean): LinearParams => ({
    weight: add(`${name}.weight`, out, inDim),
    bias: biased ? add(`${name}.bias`, out) : undefined,
  });
  const layer = (index: number): LayerParams => {
    const at = `model.layers.${index}`;
    const normOf = (name: string) => (config.qkNorm ? add(`${at}.self_attn.${name}.weight`, headDim) : undefined);
    return {
      inputNorm: add(`${at}.input_layernorm.weight`, hidden),
      q: linear(`${at}.self_attn.q_proj`, heads * headDim, hidden, config.qkvBias),
      k: linear(`${at}.self_attn.k_proj`, kvHeads * headDim, hidden, config.qkvBias),
      v: linear(`${at}.self_attn.v_proj`, kvHeads * headDim, hidden, config.qkvBias),
      qNorm: normOf('q_norm'),
      kNorm: normOf('k_norm'),
      o: linear(`${at}.self_attn.o_proj`, hidden, heads * headDim, config.outBias),
      postNorm: add(`${at}.post_attention_layernorm.weight`, hidden),
      gate: linear(`${at}.mlp.gate_proj`, ffn, hidden, config.mlpBias),
      up: linear(`${at}.mlp.up_proj`, ffn, hidden, config.mlpBias),
      down: linear(`${at}.mlp.down_proj`, hidden, ffn, config.mlpBias),
    };
  };
  const embedding = add('model.embed_tokens.weight', vocabSize, hidden);
  const layers = Array.from({ length: config.layers }, (_, index) => layer(index));
  const norm = add('model.norm.weight', hidden);
  const head = config.tiedHead ? embedding : add('lm_head.weight', vocabSize, hidden);
  return { specs, embedding, layers, norm, head };
}

/** First parameter of each layer, and of what follows the last. */
export function sectionsOf({ layers, norm }: ModelParams): number[] {
  return [...layers.map(({ inputNorm }) => inputNorm), norm];
}

/** Whether a parameter is one of the linear layers' matrices: what "all linear layers" means to the packer. */
export function isLinearWeight(name: string): boolean {
  return /\.layers\.\d+\.(self_attn|mlp)\.\w+_proj\.weight$/.test(name);
}

/** How a model's weights are held: `bf16` as the checkpoint stores them, which is BF16 almost always; `q8` and `q4` in 8 or 4 bits. */
export type WeightFormat = 'bf16' | 'q8' | 'q4';

/**
 * How one parameter is held. Norms and biases stay what they are: they are small, and act on everything. With 4-bit weights, embedding and head
 * have 8: errors there reach every token.
 */
export function paramFormat({ name, shape }: ParamSpec, weights: WeightFormat): ParamFormat {
  if (weights === 'bf16' || shape.length === 1) return 'stored';
  return isLinearWeight(name) ? weights : 'q8';
}
