/**
 * A checkpoint's weights as a GGUF file, for llama.cpp to be timed on the same work. Equal work, not equal text: it stores q and k in another rope
 * order, and the vocabulary here is made up.
 */
import { open } from 'node:fs/promises';
import { type Checkpoint, floatToHalf, halfToFloat, modelParams } from '@signpost/engine';

/** ggml's numbers of them. */
const TYPES = { F32: 0, Q8_0: 8, BF16: 30 } as const;
const ALIGN = 32;
const GROUP = 32;

const u32 = (value: number) => Buffer.from(Uint32Array.of(value).buffer);
const f32 = (value: number) => Buffer.from(Float32Array.of(value).buffer);
const u64 = (value: number) => Buffer.from(BigUint64Array.of(BigInt(value)).buffer);
const text = (value: string) => Buffer.concat([u64(Buffer.byteLength(value)), Buffer.from(value)]);
const entry = {
  u32: (key: string, value: number) => Buffer.concat([text(key), u32(4), u32(value)]),
  f32: (key: string, value: number) => Buffer.concat([text(key), u32(6), f32(value)]),
  text: (key: string, value: string) => Buffer.concat([text(key), u32(8), text(value)]),
  array: (key: string, type: number, items: readonly Buffer[]) =>
    Buffer.concat([text(key), u32(9), u32(type), u64(items.length), ...items]),
};

function metadata({ config }: Checkpoint): Buffer[] {
  const bytes = Array.from({ length: 256 }, (_, byte) => `<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`);
  const words = Array.from({ length: config.vocabSize - 259 }, (_, i) => `t${i}`);
  const tokens = ['<unk>', '<s>', '</s>', ...bytes, ...words];
  const kinds = tokens.map((_, i) => (i === 0 ? 2 : i < 3 ? 3 : i < 259 ? 6 : 1));
  return [
    entry.text('general.architecture', 'llama'),
    entry.u32('llama.block_count', config.layers),
    entry.u32('llama.context_length', config.maxPositions),
    entry.u32('llama.embedding_length', config.hidden),
    entry.u32('llama.feed_forward_length', config.ffn),
    entry.u32('llama.attention.head_count', config.heads),
    entry.u32('llama.attention.head_count_kv', config.kvHeads),
    entry.f32('llama.attention.layer_norm_rms_epsilon', config.rmsNormEps),
    entry.f32('llama.rope.freq_base', 10_000),
    entry.u32('llama.rope.dimension_count', config.headDim),
    entry.u32('llama.vocab_size', config.vocabSize),
    entry.text('tokenizer.ggml.model', 'llama'),
    entry.u32('tokenizer.ggml.bos_token_id', 1),
    entry.u32('tokenizer.ggml.eos_token_id', 2),
    entry.u32('tokenizer.ggml.unknown_token_id', 0),
    entry.array('tokenizer.ggml.tokens', 8, tokens.map(text)),
    entry.array(
      'tokenizer.ggml.scores',
      6,
      tokens.map(() => f32(0)),
    ),
    entry.array('tokenizer.ggml.token_type', 5, kinds.map(u32)),
  ];
}

const PARTS: Record<string, string> = {
  'input_layernorm.weight': 'attn_norm.weight',
  'self_attn.q_proj.weight': 'attn_q.weight',
  'self_attn.k_proj.weight': 'attn_k.weight',
  'self_attn.v_proj.weight': 'attn_v.weight',
  'self_attn.o_proj.weight': 'attn_output.weight',
  'post_attention_layernorm.weight': 'ffn_norm.weight',
  'mlp.gate_proj.weight': 'ffn_gate.weight',
  'mlp.up_proj.weight': 'ffn_up.weight',
  'mlp.down_proj.weight': 'ffn_down.weight',
  'model.embed_tokens.weight': 'token_embd.weight',
  'model.norm.weight': 'output_norm.weight',
  'lm_head.weight': 'output.weight',
};

function ggufName(name: string): string {
  const [, layer, part = name] = /^model\.layers\.(\d+)\.(.+)$/.exec(name) ?? [];
  const ours = PARTS[part];
  if (ours === undefined) throw new Error(`${name}: a plain Llama has no such parameter`);
  return layer === undefined ? ours : `blk.${layer}.${ours}`;
}

function convert(values: Uint16Array, type: keyof typeof TYPES): Uint8Array {
  if (type === 'BF16') return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  // BF16 is the upper half of a float32.
  const floats = new Float32Array(Uint32Array.from(values, (bits) => bits << 16).buffer);
  if (type === 'F32') return new Uint8Array(floats.buffer);
  const out = new DataView(new ArrayBuffer((floats.length / GROUP) * (GROUP + 2)));
  for (let start = 0, at = 0; start < floats.length; start += GROUP, at += GROUP + 2) {
    let most = 0;
    for (let i = 0; i < GROUP; i++) most = Math.max(most, Math.abs(floats[start + i] ?? 0));
    const scale = floatToHalf(most / 127);
    out.setUint16(at, scale, true);
    const width = halfToFloat(scale);
    for (let i = 0; i < GROUP; i++)
      out.setInt8(at + 2 + i, width === 0 ? 0 : Math.round((floats[start + i] ?? 0) / width));
  }
  return new Uint8Array(out.buffer);
}

/** Writes a BF16 Llama without biases. Vectors become float32, matrices `format`. */
export type GgufFormat = 'BF16' | 'Q8_0';

export async function writeGguf(path: string, checkpoint: Checkpoint, format: GgufFormat): Promise<void> {
  const { specs } = modelParams(checkpoint.config);
  const file = await open(path, 'w');
  const values = metadata(checkpoint);
  let offset = 0;
  const padded = (bytes: number) => Math.ceil(bytes / ALIGN) * ALIGN;
  const infos = specs.map(({ name, shape }) => {
    const type = shape.length === 1 ? 'F32' : format;
    const count = shape.reduce((product, dim) => product * dim, 1);
    const info = [
      text(ggufName(name)),
      u32(shape.length),
      ...shape.toReversed().map(u64),
      u32(TYPES[type]),
      u64(offset),
    ];
    offset += padded({ F32: count * 4, BF16: count * 2, Q8_0: (count / GROUP) * (GROUP + 2) }[type]);
    return Buffer.concat(info);
  });
  const head = Buffer.concat([Buffer.from('GGUF'), u32(3), u64(specs.length), u64(values.length), ...values, ...infos]);
  await file.write(Buffer.concat([head, Buffer.alloc(padded(head.length) - head.length)]));
  for (const spec of specs) {
    const { data } = checkpoint.param(spec);
    const brains = new Uint16Array(data.slice().buffer);
    const bytes = convert(brains, spec.shape.length === 1 ? 'F32' : format);
    await file.write(Buffer.concat([bytes, Buffer.alloc(padded(bytes.length) - bytes.length)]));
  }
  await file.close();
}
