/**
 * How long packing takes beside hashing the same bytes with OpenSSL, and how much memory: on checkpoints of a real model's shapes, made for the occasion.
 * Run: `npx tsx bench/src/pack.ts [7b|70b|1b] [layers] [sparse]`; 7b with all 32 layers needs 29 GB of disk, and page cache to be warm in.
 *
 * The files are full of numbers, so that nothing is cheaper than in earnest. Rounds take turns; medians are printed. With `sparse` they are holes but for a
 * number in each matrix, and take no disk: for a model's whole depth, whose packing is done once and whose memory is what counts.
 */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { createWriteStream } from 'node:fs';
import { mkdir, mkdtemp, open, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { elementCount, encodeHeader, type TensorSpec } from '@signpost/contracts';
import { modelParams, parseModelConfig } from '@signpost/engine';

const ROUNDS = 3;
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

type Size = keyof typeof SHAPES;

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

/** BF16 numbers around ±0.01, another stream of them for each seed. */
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
): Promise<{ specs: TensorSpec[]; header: Uint8Array }> {
  const config = configOf(size, layers);
  await writeFile(join(dir, 'config.json'), JSON.stringify(config));
  const specs = modelParams(parseModelConfig(config, 'bench')).specs.map(
    ({ name, shape }): TensorSpec => ({ name, dtype: 'BF16', shape }),
  );
  return { specs, header: encodeHeader(specs, {}) };
}

/** Zeros, and in each matrix of a fine-tune one that is not. */
async function makeSparse(dir: string, size: Size, layers: number, first: number): Promise<void> {
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

async function makeCheckpoint(dir: string, size: Size, layers: number, seed: number): Promise<void> {
  const { specs, header } = await makeHeader(dir, size, layers);
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

/** Wall seconds of OpenSSL over both files at once, a process each. */
async function hashBoth(files: readonly string[]): Promise<number> {
  const started = performance.now();
  const runs = files.map((file) => once(spawn('openssl', ['dgst', '-sha256', file], { stdio: 'ignore' }), 'exit'));
  await Promise.all(runs);
  return (performance.now() - started) / 1e3;
}

function hashInTurn(files: readonly string[]): number {
  const started = performance.now();
  for (const file of files) spawnSync('openssl', ['dgst', '-sha256', file], { stdio: 'ignore' });
  return (performance.now() - started) / 1e3;
}

/** Wall seconds and peak resident bytes of a process that packs. */
function packOnce(dir: string): { seconds: number; peakBytes: number } {
  const started = performance.now();
  const cli = join(import.meta.dirname, '../../packer/bin/signpost-packer.mjs');
  const { stdout, stderr, status } = spawnSync(
    process.execPath,
    [
      ...['--import', join(import.meta.dirname, 'print-peak.mjs'), cli, 'pack', '--name', 'x'],
      ...['--base', join(dir, 'base'), '--tuned', join(dir, 'tuned'), '--out', join(dir, 'x.delta.safetensors')],
    ],
    { encoding: 'utf8' },
  );
  if (status !== 0) throw new Error(`packing failed: ${stderr}`);
  const peak = /peak (?<kib>\d+)/.exec(stdout)?.groups?.kib;
  return { seconds: (performance.now() - started) / 1e3, peakBytes: Number(peak) * 1024 };
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1] ?? Number.NaN;
}

function mebibytes(bytes: number): string {
  return `${(bytes / 2 ** 20).toFixed(0)} MiB`;
}

async function compare(dir: string, files: readonly string[], bytes: number): Promise<void> {
  // Once for the page cache.
  hashInTurn(files);
  const runs = [];
  for (let round = 0; round < ROUNDS; round++)
    runs.push({ turn: hashInTurn(files), both: await hashBoth(files), ...packOnce(dir) });
  const seconds = median(runs.map((run) => run.seconds));
  const [turn, both] = [median(runs.map((run) => run.turn)), median(runs.map((run) => run.both))];
  const rate = (time: number) => `${time.toFixed(1)} s, ${(bytes / time / 1e9).toFixed(2)} GB/s`;
  console.log(`openssl dgst -sha256, one file after the other: ${rate(turn)}`);
  console.log(`openssl dgst -sha256, both at once: ${rate(both)}`);
  console.log(
    `signpost-packer pack: ${rate(seconds)}: ${(seconds / turn).toFixed(2)} × the first, ${(seconds / both).toFixed(2)} × the second`,
  );
  console.log(`peak memory: ${mebibytes(Math.max(...runs.map((run) => run.peakBytes)))}`);
}

const wanted = process.argv[2] ?? '7b';
const size: Size = wanted === '1b' || wanted === '70b' ? wanted : '7b';
const layers = Number(process.argv[3] ?? 32);
const isSparse = process.argv[4] === 'sparse';
const dir = await mkdtemp(join(process.env.BENCH_DIR ?? tmpdir(), 'signpost-bench-pack-'));
try {
  for (const [name, seed] of [
    ['base', 5],
    ['tuned', 9],
  ] as const) {
    await mkdir(join(dir, name));
    if (isSparse) await makeSparse(join(dir, name), size, layers, name === 'tuned' ? 0x3c00 : 0);
    else await makeCheckpoint(join(dir, name), size, layers, seed);
  }
  const files = ['base', 'tuned'].map((name) => join(dir, name, 'model.safetensors'));
  const bytes = (await Promise.all(files.map((file) => stat(file)))).reduce((sum, file) => sum + file.size, 0);
  console.log(
    `${size} shapes, ${layers} layers: ${(bytes / 2 ** 30).toFixed(1)} GiB in two checkpoints${isSparse ? ', sparse' : ''}`,
  );
  if (isSparse) {
    const { seconds, peakBytes } = packOnce(dir);
    console.log(`signpost-packer pack, once: ${seconds.toFixed(0)} s, peak memory ${mebibytes(peakBytes)}`);
  } else {
    await compare(dir, files, bytes);
  }
} finally {
  await rm(dir, { recursive: true });
}
