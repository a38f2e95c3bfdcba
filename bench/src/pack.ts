/**
 * How long packing takes beside hashing the same bytes with OpenSSL, and how much memory: on checkpoints of a real model's shapes, made for the occasion.
 * Run: `npx tsx bench/src/pack.ts [7b|70b|1b] [layers] [sparse|f16]`; 7b with all 32 layers needs 29 GB of disk, and page cache to be warm in.
 *
 * The files are full of numbers, so that nothing is cheaper than in earnest. Rounds take turns; medians are printed. With `sparse` they are holes but for a
 * number in each matrix, and take no disk: for a model's whole depth, whose packing is done once and whose memory is what counts.
 */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { makeCheckpoint, makeSparse, mebibytes, runPacker, type Size } from './checkpoints.ts';

const ROUNDS = 3;

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

function packOnce(dir: string): { seconds: number; peakBytes: number } {
  const checkpoints = ['--base', join(dir, 'base'), '--tuned', join(dir, 'tuned')];
  return runPacker('pack', '--name', 'x', ...checkpoints, '--out', join(dir, 'x.delta.safetensors'));
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1] ?? Number.NaN;
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
const dtype = process.argv[4] === 'f16' ? 'F16' : 'BF16';
const dir = await mkdtemp(join(process.env.BENCH_DIR ?? tmpdir(), 'signpost-bench-pack-'));
try {
  for (const [name, seed] of [
    ['base', 5],
    ['tuned', 9],
  ] as const) {
    await mkdir(join(dir, name));
    if (isSparse) await makeSparse(join(dir, name), size, layers, name === 'tuned' ? 0x3c00 : 0);
    else await makeCheckpoint(join(dir, name), size, layers, seed, dtype);
  }
  const files = ['base', 'tuned'].map((name) => join(dir, name, 'model.safetensors'));
  const bytes = (await Promise.all(files.map((file) => stat(file)))).reduce((sum, file) => sum + file.size, 0);
  console.log(
    `${size} shapes, ${layers} layers: ${(bytes / 2 ** 30).toFixed(1)} GiB of ${dtype} in two checkpoints${isSparse ? ', sparse' : ''}`,
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
