/**
 * What is seen of a region once a storm is over.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Region } from './region.ts';
import { type Question, REFUSALS, type Traffic } from './traffic.ts';

export interface RecoveryOptions {
  readonly traffic: Traffic;
  readonly models: readonly string[];
  readonly question: Question;
  /** Within this all models answer. */
  readonly limitMs: number;
}

/** Refusals that the region has counted, by code. */
export async function refusals(region: Region): Promise<Map<string, number>> {
  const series = await region.metrics();
  const of = (code: string) => series.get(`signpost_requests_refused_total{code="${code}"}`) ?? 0;
  return new Map(REFUSALS.map((code) => [code, of(code)]));
}

/** All answer again, and go on to; then the load ends. @throws Error naming the first model that doesn't in time */
export async function recovered({ traffic, models, question, limitMs }: RecoveryOptions): Promise<void> {
  const started = performance.now();
  await Promise.all(
    models.map(async (model) => {
      for (;;) {
        const outcome = await traffic.check({ model, question, stream: false, timeoutMs: limitMs });
        if (outcome?.kind === 'answered') return;
        const ms = Math.round(performance.now() - started);
        if (ms > limitMs) throw new Error(`${model} after ${ms} ms: ${JSON.stringify(outcome)}`);
      }
    }),
  );
  console.log(
    `chaos: recovered in ${Math.round(performance.now() - started)} ms; ${JSON.stringify(Object.fromEntries(traffic.counts))}`,
  );
  traffic.mustAnswer();
  await sleep(800);
  await traffic.stop();
}

/** What a region holds for requests, as shares where it has a fixed number, and how many files each tier has: NaN where bytes say otherwise. @param fileBytes of each */
export async function restOf(region: Region, fileBytes: number): Promise<object> {
  const { running, waiting, slotsFree, kvBlocks, kvBlocksFree, experts } = await region.heartbeat();
  const series = await region.metrics();
  const files = (tier: 'device' | 'host') => {
    const count = series.get(`signpost_tier_experts{tier="${tier}"}`) ?? 0;
    return series.get(`signpost_tier_bytes{tier="${tier}"}`) === count * fileBytes ? count : Number.NaN;
  };
  return {
    running,
    waiting,
    slots: slotsFree,
    kv: kvBlocksFree / kvBlocks,
    loading: experts.loading.length,
    files: { device: files('device'), host: files('host') },
  };
}
