/**
 * What calibrating one matrix of a large model takes: a layer of 7B shapes, made for the occasion, whose down projection alone becomes 1-bit.
 * Run: `npx tsx bench/src/calibrate.ts [tokens] [gate|down]`; about 10 GiB of memory and 3 GiB of disk.
 */
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Digest } from '@signpost/contracts';
import { openCheckpoint } from '@signpost/engine';
import { pack } from '@signpost/packer';
import { makeCheckpoint, mebibytes } from './checkpoints.ts';

const tokens = Number(process.argv[2] ?? 256);
const matrix = process.argv[3] ?? 'down';
const dir = await mkdtemp(join(process.env.BENCH_DIR ?? tmpdir(), 'signpost-bench-calibrate-'));
try {
  for (const [name, seed] of [
    ['base', 5],
    ['tuned', 9],
  ] as const) {
    await mkdir(join(dir, name));
    await makeCheckpoint(join(dir, name), '7b', 1, seed);
  }
  const [base, tuned] = [await openCheckpoint(join(dir, 'base')), await openCheckpoint(join(dir, 'tuned'))];
  const sequences = Array.from({ length: Math.ceil(tokens / 64) }, (_, s) => ({
    tokens: Array.from({ length: 64 }, (_, t) => (s * 7919 + t * 104_729) % base.config.vocabSize),
    answerStart: 0,
  }));
  const started = performance.now();
  await pack(base, tuned, {
    name: 'x',
    out: join(dir, 'x.delta.safetensors'),
    policy: [
      { match: `*.${matrix}_proj.weight`, as: '1bit' },
      { match: '*', as: 'drop' },
    ],
    calibration: { sequences, digest: 'c'.repeat(64) as Digest },
  });
  const { maxRSS } = process.resourceUsage();
  console.log(
    `${matrix} projection of 7B shapes, ${tokens} tokens: ${((performance.now() - started) / 1e3).toFixed(0)} s, peak memory ${mebibytes(maxRSS * 1024)}`,
  );
} finally {
  await rm(dir, { recursive: true });
}
