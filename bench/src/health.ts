/**
 * How long an HTTP health check takes while the engine computes: a real server in a process of its own, a model of the 360M shape with random
 * weights, prompts of 2,048 tokens. Run: `npx tsx bench/src/health.ts`.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { SHAPE_360M, writeRandomCheckpoint } from './random-checkpoint.ts';
import { complete, startRegion } from './server.ts';

const ROUNDS = 3;
const PROMPT_TOKENS = 2_048;
const ANSWER_TOKENS = 64;
const CHECK_EVERY_MS = 5;

/** Milliseconds of each health check, one every few milliseconds until `work` is done. */
async function checkWhile(url: string, work: Promise<unknown>): Promise<number[]> {
  const latencies: number[] = [];
  let isDone = false;
  const done = work.finally(() => {
    isDone = true;
  });
  while (!isDone) {
    const start = performance.now();
    const response = await fetch(`${url}/health/ready`);
    await response.text();
    if (response.status !== 200) throw new Error(`the health check says ${response.status}`);
    latencies.push(performance.now() - start);
    await sleep(CHECK_EVERY_MS);
  }
  await done;
  return latencies;
}

function line(what: string, latencies: readonly number[], rate: string): string {
  const sorted = latencies.toSorted((a, b) => a - b);
  const at = (share: number) => (sorted[Math.floor(share * (sorted.length - 1))] ?? Number.NaN).toFixed(1).padStart(6);
  const columns = [
    `p50 ${at(0.5)} ms`,
    `p99 ${at(0.99)} ms`,
    `max ${at(1)} ms`,
    `${latencies.length} checks`.padStart(12),
  ];
  return [what.padEnd(28), ...columns, rate].join('  ');
}

const dir = await mkdtemp(join(tmpdir(), 'signpost-health-'));
try {
  await writeRandomCheckpoint(dir, SHAPE_360M);
  const region = await startRegion(dir, join(dir, 'store'), ['--kv-tokens', '8192']);
  const { url } = region;
  try {
    const idle = await checkWhile(url, sleep(2_000));
    console.log(line('idle', idle.slice(20), ''));
    const [prefill, decode]: [number[], number[]] = [[], []];
    const seconds = { prefill: 0, decode: 0 };
    for (let round = 0; round < ROUNDS; round++) {
      // A prompt of its own each time: none is in the prefix cache.
      const prompt = Array.from({ length: PROMPT_TOKENS }, (_, i) => 1_000 + ((i * 37 + round * 101) % 2_000));
      const start = performance.now();
      prefill.push(...(await checkWhile(url, complete(region, 'base', prompt, 1))));
      const between = performance.now();
      decode.push(...(await checkWhile(url, complete(region, 'base', prompt.slice(0, 16), ANSWER_TOKENS))));
      seconds.prefill += (between - start) / 1e3;
      seconds.decode += (performance.now() - between) / 1e3;
    }
    const rate = (tokens: number, time: number) => `${((ROUNDS * tokens) / time).toFixed(1)} tok/s`;
    console.log(line(`${PROMPT_TOKENS} tokens of prefill`, prefill, rate(PROMPT_TOKENS, seconds.prefill)));
    console.log(line('an answer of one request', decode, rate(ANSWER_TOKENS, seconds.decode)));
  } finally {
    await region.close();
  }
} finally {
  await rm(dir, { recursive: true, force: true });
}
