/**
 * A Llama of any size with random weights and the demo's tokenizer: what speed is measured on where answers don't matter.
 */
import { copyFile, open, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { encodeHeader } from '@signpost/contracts';
import { modelParams, parseModelConfig } from '@signpost/engine';

const DEMO = join(import.meta.dirname, '../../models/demo/base');

export interface LlamaShape {
  readonly hidden: number;
  readonly layers: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly ffn: number;
  readonly vocab: number;
}

/** SmolLM's. */
export const SHAPE_360M: LlamaShape = { hidden: 960, layers: 32, heads: 15, kvHeads: 5, ffn: 2560, vocab: 32_000 };

/** Writes a BF16 checkpoint into an empty folder. */
export async function writeRandomCheckpoint(dir: string, shape: LlamaShape): Promise<void> {
  const json = {
    architectures: ['LlamaForCausalLM'],
    model_type: 'llama',
    hidden_size: shape.hidden,
    intermediate_size: shape.ffn,
    num_hidden_layers: shape.layers,
    num_attention_heads: shape.heads,
    num_key_value_heads: shape.kvHeads,
    vocab_size: shape.vocab,
    max_position_embeddings: 4096,
    rms_norm_eps: 1e-5,
    rope_theta: 10_000,
    hidden_act: 'silu',
    tie_word_embeddings: false,
    torch_dtype: 'bfloat16',
    eos_token_id: 0,
  };
  await writeFile(join(dir, 'config.json'), JSON.stringify(json));
  for (const name of ['tokenizer.json', 'tokenizer_config.json']) await copyFile(join(DEMO, name), join(dir, name));
  const specs = modelParams(parseModelConfig(json, dir)).specs.map((spec) => ({ ...spec, dtype: 'BF16' as const }));
  const file = await open(join(dir, 'model.safetensors'), 'w');
  await file.write(encodeHeader(specs, {}));
  let state = 0x9e3779b9;
  for (const { shape: dims } of specs) {
    const values = new Uint16Array(dims.reduce((product, dim) => product * dim, 1));
    for (let i = 0; i < values.length; i++) {
      state ^= state << 13;
      state ^= state >>> 17;
      state ^= state << 5;
      // Norms are 1; of the others the sign and the lower bits of a number between 1/64 and 1/32.
      values[i] = dims.length === 1 ? 0x3f80 : (state & 0x807f) | 0x3c80;
    }
    await file.write(new Uint8Array(values.buffer));
  }
  await file.close();
}
