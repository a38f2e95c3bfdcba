/**
 * A region's start, as its image runs it: from the process to ready, beside the time that the base takes to be read from the disk; and the base's way from a store on this machine.
 *
 *   npx tsx bench/src/cold-start.ts [--gigabytes 2] [--rounds 3] [--dir FOLDER] [--node PROGRAM]
 *
 * Reading and starting take turns within a round, each from a disk whose pages the system has forgotten (as root; else it says that they may be in memory). The folder should be on the disk
 * that is meant: a temporary one of the system's by default. The image has Node 22, and --node says which one starts it here: this one by default.
 */
import { execFileSync, spawn } from 'node:child_process';
import { mkdir, mkdtemp, open, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { parseArgs } from 'node:util';
import { publishBase } from '@signpost/packer';
import { openStore } from '@signpost/store';
import { serveStore } from '@signpost/store/testing';
import { writeRandomCheckpoint } from './random-checkpoint.ts';

const ROOT = join(import.meta.dirname, '../..');
const READ_BYTES = 4 * 2 ** 20;
/** Of a layer of this shape, and of embedding and head; in BF16. */
const SHAPE = { hidden: 2048, heads: 32, kvHeads: 4, ffn: 5632, vocab: 32_000 };
const LAYER_BYTES =
  2 * (2 * SHAPE.hidden ** 2 + (2 * SHAPE.hidden ** 2 * SHAPE.kvHeads) / SHAPE.heads + 3 * SHAPE.hidden * SHAPE.ffn);
const ENDS_BYTES = 2 * 2 * SHAPE.vocab * SHAPE.hidden;

const { values } = parseArgs({
  options: {
    gigabytes: { type: 'string', default: '2' },
    rounds: { type: 'string', default: '3' },
    dir: { type: 'string', default: tmpdir() },
    node: { type: 'string', default: process.execPath },
  },
});

/** @returns whether what was read from disks is forgotten. */
async function forgetPages(): Promise<boolean> {
  execFileSync('sync');
  return writeFile('/proc/sys/vm/drop_caches', '3').then(
    () => true,
    () => false,
  );
}

/** Seconds to read a file from its beginning to its end. */
async function readSeconds(path: string): Promise<number> {
  const began = performance.now();
  const file = await open(path, 'r');
  const buffer = new Uint8Array(READ_BYTES);
  while ((await file.read(buffer, 0, READ_BYTES)).bytesRead > 0);
  await file.close();
  return (performance.now() - began) / 1000;
}

interface Start {
  /** From the process to ready. */
  readonly seconds: number;
  /** Of them, until the engine began to load; to ready from there. */
  readonly loadSeconds: number;
  /** Until the base had come from the store, if it did. */
  readonly fetchSeconds: number;
  /** Of all its threads, where the system tells (Linux). */
  readonly cpuSeconds: number;
}

const TICKS_PER_SECOND = 100;

async function cpuSeconds(pid: number | undefined): Promise<number> {
  const text = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '');
  // Behind the name, which may hold anything, the 12th and 13th.
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
}

/** As the Dockerfile sets it. */
const environment = (image: string) => ({ ...process.env, NODE_COMPILE_CACHE: join(image, 'compiled') });

/** Starts the bundle of an image until it is ready, and has kept the base if it is to, and ends it. */
async function start(image: string, flags: readonly string[], base: 'there' | 'kept' = 'there'): Promise<Start> {
  const began = performance.now();
  const args = [join(image, 'dist/backend.mjs'), '--region', 'bench', '--port', '0', '--slots', '1', ...flags];
  const child = spawn(values.node, args, { stdio: ['ignore', 'pipe', 'inherit'], env: environment(image) });
  try {
    let fetchSeconds = 0;
    let isKept = base === 'there';
    let ready: Start | undefined;
    for await (const line of createInterface(child.stdout)) {
      const told = JSON.parse(line) as { msg: string; loadMs: number; fetchMs: number };
      if (told.msg === 'the base is here') fetchSeconds = told.fetchMs / 1000;
      if (told.msg === 'the base is kept') isKept = true;
      if (told.msg === 'ready')
        ready = {
          seconds: (performance.now() - began) / 1000,
          loadSeconds: told.loadMs / 1000,
          fetchSeconds,
          cpuSeconds: await cpuSeconds(child.pid),
        };
      if (ready !== undefined && isKept) return ready;
    }
    throw new Error('the region ended before it was ready');
  } finally {
    child.kill('SIGKILL');
  }
}

const median = (list: readonly number[]) => [...list].sort((a, b) => a - b)[Math.floor(list.length / 2)] ?? Number.NaN;

const dir = await mkdtemp(join(values.dir, 'signpost-cold-start-'));
try {
  const image = join(dir, 'image');
  const base = join(dir, 'base');
  const store = openStore(join(dir, 'store'));
  execFileSync(process.execPath, [join(ROOT, 'gpu-backend/bundle.mjs'), image]);
  try {
    execFileSync(values.node, [join(image, 'dist/compile.mjs')], { env: environment(image), stdio: 'inherit' });
  } catch {
    console.log('modules are compiled at each start, which the image needn’t: it has a newer Node');
  }
  const layers = Math.max(1, Math.round((Number(values.gigabytes) * 1e9 - ENDS_BYTES) / LAYER_BYTES));
  await mkdir(base);
  await writeRandomCheckpoint(base, { ...SHAPE, layers });
  const weights = join(base, 'model.safetensors');
  const { size } = await stat(weights);
  const cold = await forgetPages();
  const reads: number[] = [];
  const starts: Start[] = [];
  for (let round = 0; round < Number(values.rounds); round++) {
    await forgetPages();
    reads.push(await readSeconds(weights));
    await forgetPages();
    starts.push(await start(image, ['--base', base, '--store', store.url]));
  }
  const warm = await start(image, ['--base', base, '--store', store.url]);
  const ratios = starts.map(({ seconds }, i) => seconds / (reads[i] ?? Number.NaN));
  console.log(
    [
      `base of ${(size / 1e9).toFixed(2)} GB, ${cold ? 'from the disk' : 'perhaps from memory: run as root to have it read from the disk'} (medians of ${values.rounds})`,
      `read               ${median(reads).toFixed(2)} s = ${(size / 1e9 / median(reads)).toFixed(2)} GB/s (${reads.map((seconds) => seconds.toFixed(2)).join(', ')})`,
      `start to ready     ${median(starts.map(({ seconds }) => seconds)).toFixed(2)} s = ${median(ratios).toFixed(2)} × (${ratios.map((ratio) => ratio.toFixed(2)).join(', ')})`,
      `  before the load  ${median(starts.map(({ seconds, loadSeconds }) => seconds - loadSeconds)).toFixed(2)} s`,
      `  CPU              ${median(starts.map((one) => one.cpuSeconds)).toFixed(2)} s, on ${availableParallelism()} cores`,
      `from memory        ${warm.seconds.toFixed(2)} s`,
    ].join('\n'),
  );
  // The same from a store: a web server on this machine, which shares its cores.
  await publishBase(store, base);
  const server = await serveStore(store);
  const cache = join(dir, 'cache');
  const fetched = await start(image, ['--base', 'store:', '--base-cache', cache, '--store', server.url], 'kept');
  await forgetPages();
  const kept = await start(image, ['--base', 'store:', '--base-cache', cache, '--store', server.url]);
  await server.close();
  console.log(
    `fetched            ${fetched.fetchSeconds.toFixed(2)} s = ${(size / 1e9 / fetched.fetchSeconds).toFixed(2)} GB/s, ready after ${fetched.seconds.toFixed(2)} s, CPU ${fetched.cpuSeconds.toFixed(2)} s\nfrom the cache     ${kept.seconds.toFixed(2)} s`,
  );
} finally {
  await rm(dir, { recursive: true, force: true });
}
