/**
 * Many experts in few slots: requests for 64 experts, Zipf(1.0), at half of what the base alone can take, by the number of slots.
 *
 * Every run sees the same arrivals. Each expert was asked for once before, so that where all fit, all are in.
 */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { seriesChart } from '@signpost/packer';
import type { LlamaShape } from '../random-checkpoint.ts';
import { ALL_CORES_BUT_ONE, type Answer, complete, type Region, startRegion } from '../server.ts';
import { draw, freshPrompt, openStand, type Stand } from './stand.ts';

/** Small, so that there are hundreds of requests in a few seconds. */
const SHAPE: LlamaShape = { hidden: 512, layers: 8, heads: 8, kvHeads: 4, ffn: 1408, vocab: 32_000 };
const EXPERTS = 64;
const SLOTS = [64, 32, 16, 8, 4, 2, 1];
/** What the figures are asked for. */
const FEW_SLOTS = 8;
const PROMPT_TOKENS = 64;
const ANSWER_TOKENS = 16;
const CAPACITY_CLIENTS = 16;
const CAPACITY_SECONDS = 8;
const TRACE_SECONDS = 12;
const NO_LIMITS = ['--max-requests', '100000', '--max-queued-tokens', '100000000'];

interface Arrival {
  readonly atMs: number;
  readonly expert: number;
  readonly prompt: readonly number[];
}

interface Outcome {
  /** Requests a second, from the first arrival to the last end. */
  readonly throughput: number;
  readonly p50: number;
  readonly p95: number;
  readonly max: number;
  readonly failed: number;
}

/** @param charts folder to draw into; nothing is drawn if left out. */
export async function measureZipf(charts: string | undefined): Promise<void> {
  const stand = await openStand(SHAPE, EXPERTS);
  try {
    const hostBytes = stand.experts.reduce((sum, { bytes }) => sum + bytes, 0);
    const capacity = await capacityOfBase(stand);
    const arrivals = zipfTrace(capacity / 2);
    console.log(
      `the base alone: ${capacity.toFixed(1)} requests/s; ${arrivals.length} requests at half of that, ${PROMPT_TOKENS} tokens in, ${ANSWER_TOKENS} out`,
    );
    const outcomes = new Map<number, Outcome>();
    for (const slots of SLOTS) {
      const outcome = await run(stand, slots, hostBytes, arrivals);
      outcomes.set(slots, outcome);
      console.log(line(`${slots} slots`.padStart(8), outcome, outcomes.get(EXPERTS) ?? outcome));
    }
    const all = outcomes.get(EXPERTS);
    if (all === undefined) throw new Error('there is no run in which all experts fit');
    const third = await run(stand, FEW_SLOTS, Math.ceil(hostBytes / 3), arrivals);
    console.log(line(`${FEW_SLOTS} slots, a third in memory, store on loopback`, third, all));
    const unshape = await stand.shape();
    const shaped = await run(stand, FEW_SLOTS, Math.ceil(hostBytes / 3), arrivals);
    await unshape();
    console.log(line(`${FEW_SLOTS} slots, a third in memory, store behind the link`, shaped, all));
    if (charts !== undefined) await drawCharts(charts, outcomes, all);
  } finally {
    await stand.close();
  }
}

/** Requests a second that clients which never rest get out of a region. */
async function capacityOfBase({ base, store }: Stand): Promise<number> {
  const region = await startRegion(base, store, [...ALL_CORES_BUT_ONE, ...NO_LIMITS]);
  try {
    let done = 0;
    const started = performance.now();
    const client = async () => {
      while (performance.now() - started < CAPACITY_SECONDS * 1e3) {
        await complete(region, 'base', freshPrompt(PROMPT_TOKENS), ANSWER_TOKENS);
        done++;
      }
    };
    await Promise.all(Array.from({ length: CAPACITY_CLIENTS }, client));
    return done / ((performance.now() - started) / 1e3);
  } finally {
    await region.close();
  }
}

/** Poisson arrivals. */
function zipfTrace(perSecond: number): Arrival[] {
  const weights = Array.from({ length: EXPERTS }, (_, rank) => 1 / (rank + 1));
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  const chance = () => (draw(2 ** 30) + 1) / 2 ** 30;
  const arrivals: Arrival[] = [];
  for (let atMs = 0; atMs < TRACE_SECONDS * 1e3; atMs += (-1e3 * Math.log(chance())) / perSecond) {
    let left = chance() * total;
    const expert = weights.findIndex((weight) => {
      left -= weight;
      return left <= 0;
    });
    arrivals.push({ atMs, expert: expert === -1 ? EXPERTS - 1 : expert, prompt: freshPrompt(PROMPT_TOKENS) });
  }
  return arrivals;
}

async function run(
  { base, store }: Stand,
  slots: number,
  hostBytes: number,
  arrivals: readonly Arrival[],
): Promise<Outcome> {
  const flags = ['--slots', String(slots), '--host-cache-bytes', String(hostBytes), ...ALL_CORES_BUT_ONE, ...NO_LIMITS];
  const region = await startRegion(base, store, flags);
  try {
    // The most popular last: they are in.
    for (let expert = EXPERTS - 1; expert >= 0; expert--) await complete(region, `expert-${expert}`, freshPrompt(1), 1);
    return await replay(region, arrivals);
  } finally {
    await region.close();
  }
}

async function replay(region: Region, arrivals: readonly Arrival[]): Promise<Outcome> {
  const started = performance.now();
  let failed = 0;
  const answers = await Promise.all(
    arrivals.map(async ({ atMs, expert, prompt }): Promise<Answer | undefined> => {
      await sleep(atMs - (performance.now() - started));
      try {
        return await complete(region, `expert-${expert}`, prompt, ANSWER_TOKENS);
      } catch (error) {
        failed++;
        console.error(error);
        return undefined;
      }
    }),
  );
  const seconds = (performance.now() - started) / 1e3;
  const firstTokens = answers.flatMap((answer) => answer?.firstTokenMs ?? []).toSorted((a, b) => a - b);
  const at = (share: number) => firstTokens[Math.ceil(share * firstTokens.length) - 1] ?? Number.NaN;
  return { throughput: firstTokens.length / seconds, p50: at(0.5), p95: at(0.95), max: at(1), failed };
}

function line(what: string, { throughput, p50, p95, max, failed }: Outcome, all: Outcome): string {
  const rate = `${throughput.toFixed(1)} requests/s (${((100 * throughput) / all.throughput).toFixed(0)} %)`;
  const first = `first token p50 ${p50.toFixed(0)} ms, p95 ${p95.toFixed(0)} ms (${(p95 / all.p95).toFixed(1)} ×), max ${max.toFixed(0)} ms`;
  return `${what}: ${rate}; ${first}; ${failed} failed`;
}

async function drawCharts(dir: string, outcomes: ReadonlyMap<number, Outcome>, all: Outcome): Promise<void> {
  const runs = [...outcomes].sort(([a], [b]) => a - b);
  const common = { mark: 'line', categoryTitle: `slots, for ${EXPERTS} experts`, seriesTitle: '' } as const;
  const points = (series: string, value: (outcome: Outcome) => number) =>
    runs.map(([slots, outcome]) => ({ category: String(slots), series, value: value(outcome) }));
  const throughput = await seriesChart({
    ...common,
    title: 'Throughput by slots',
    valueTitle: 'throughput (% of that with all in slots)',
    points: [
      ...points('measured', (outcome) => (100 * outcome.throughput) / all.throughput),
      ...points('asked for', () => 70),
    ],
  });
  const firstToken = await seriesChart({
    ...common,
    title: 'Time to first token by slots',
    valueTitle: 'first token (× the p95 with all in slots)',
    points: [
      ...points('p95', (outcome) => outcome.p95 / all.p95),
      ...points('p50', (outcome) => outcome.p50 / all.p95),
      ...points('asked for (p95)', () => 3),
    ],
  });
  await writeFile(join(dir, 'paging-throughput.svg'), throughput);
  await writeFile(join(dir, 'paging-first-token.svg'), firstToken);
}
