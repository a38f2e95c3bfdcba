/**
 * Checkpoints of real models' shapes, made for a benchmark, and the packer as a process whose time and memory are measured.
 */
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { createWriteStream } from 'node:fs';
import { open, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { elementCount, encodeHeader, type TensorSpec } from '@signpost/contracts';
import { modelParams, parseModelConfig } from '@signpost/engine';

const SHAPES = {
  '7b': {
    hidden_size: 4096,
    intermediate_size: 14_336,
    num_attention_heads: 32,
    num_key_value_heads: 8,
    vocab_size: 32_000,
  },
  '70b': {
    hidden_size: 8192,
    intermediate_size: 28_672,
    num_attention_heads: 64,
    num_key_value_heads: 8,
    vocab_size: 32_000,
  },
  '1b': {
    hidden_size: 2048,
    intermediate_size: 8192,
    num_attention_heads: 32,
    num_key_value_heads: 8,
    vocab_size: 32_000,
  },
};
const CHUNK_BYTES = 16 * 1024 * 1024;

export type Size = keyof typeof SHAPES;

function configOf(size: Size, layers: number): Record<string, unknown> {
  return {
    architectures: ['MistralForCausalLM'],
    model_type: 'mistral',
    ...SHAPES[size],
    num_hidden_layers: layers,
    max_position_embeddings: 4096,
    rms_norm_eps: 1e-5,
    rope_theta: 10_000,
    tie_word_embeddings: false,
    torch_dtype: 'bfloat16',
    hidden_act: 'silu',
    eos_token_id: 2,
  };
}

/** Numbers around ±0.01 as BF16, or ±1 as F16, another stream of them for each seed. */
function noise(seed: number): Uint8Array {
  const words = new Uint32Array(CHUNK_BYTES / 4);
  let state = seed | 1;
  for (let i = 0; i < words.length; i++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    words[i] = (state & 0x807f807f) | 0x3c003c00;
  }
  return new Uint8Array(words.buffer);
}

/** Config and header of a checkpoint. */
async function makeHeader(
  dir: string,
  size: Size,
  layers: number,
  dtype: 'BF16' | 'F16' = 'BF16',
): Promise<{ specs: TensorSpec[]; header: Uint8Array }> {
  const config = configOf(size, layers);
  await writeFile(join(dir, 'config.json'), JSON.stringify(config));
  const specs = modelParams(parseModelConfig(config, 'bench')).specs.map(
    ({ name, shape }): TensorSpec => ({ name, dtype, shape }),
  );
  return { specs, header: encodeHeader(specs, {}) };
}

/** Zeros, and in each matrix of a fine-tune one that is not. */
export async function makeSparse(dir: string, size: Size, layers: number, first: number): Promise<void> {
  const { specs, header } = await makeHeader(dir, size, layers);
  const file = await open(join(dir, 'model.safetensors'), 'w');
  await file.write(header);
  let end = header.length;
  for (const { name, shape } of specs) {
    if (name.includes('_proj') && first !== 0) await file.write(Uint16Array.of(first), 0, 2, end);
    end += 2 * elementCount(shape);
  }
  await file.truncate(end);
  await file.close();
}

/** Full of numbers: the same for each seed, and others in linear layers. */
export async function makeCheckpoint(
  dir: string,
  size: Size,
  layers: number,
  seed: number,
  dtype: 'BF16' | 'F16' = 'BF16',
): Promise<void> {
  const { specs, header } = await makeHeader(dir, size, layers, dtype);
  const out = createWriteStream(join(dir, 'model.safetensors'));
  const write = async (data: Uint8Array) => {
    if (!out.write(data)) await once(out, 'drain');
  };
  await write(header);
  const [shared, own] = [noise(1), noise(seed)];
  for (const { name, shape } of specs) {
    const chunk = name.includes('_proj') ? own : shared;
    let left = 2 * elementCount(shape);
    for (; left > 0; left -= chunk.length) await write(left >= chunk.length ? chunk : chunk.subarray(0, left));
  }
  out.end();
  await once(out, 'finish');
}

/** Wall seconds and peak resident bytes of the packer's command. */
export function runPacker(...args: readonly string[]): { seconds: number; peakBytes: number } {
  const started = performance.now();
  const cli = join(import.meta.dirname, '../../packer/bin/signpost-packer.mjs');
  const { stdout, stderr, status } = spawnSync(
    process.execPath,
    ['--import', join(import.meta.dirname, 'print-peak.mjs'), cli, ...args],
    { encoding: 'utf8' },
  );
  if (status !== 0) throw new Error(`signpost-packer ${args[0]} failed: ${stderr}`);
  const peak = /peak (?<kib>\d+)/.exec(stdout)?.groups?.kib;
  return { seconds: (performance.now() - started) / 1e3, peakBytes: Number(peak) * 1024 };
}

export function mebibytes(bytes: number): string {
  return `${(bytes / 2 ** 20).toFixed(0)} MiB`;
}
