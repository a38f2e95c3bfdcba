/**
 * Decision records of the last minutes, and what is plotted of them. No I/O.
 */
import type { DecisionRecord } from '../api/types.ts';

export const WINDOW_MS = 5 * 60_000;
export const BUCKET_MS = 5_000;

/** Points of time (seconds since the epoch) and values; null where nothing was asked. */
export interface Series {
  readonly at: readonly number[];
  readonly p50Ms: readonly (number | null)[];
  readonly p95Ms: readonly (number | null)[];
  /** Answers' tokens and requests a second. */
  readonly tokensPerSecond: readonly number[];
  readonly requestsPerSecond: readonly number[];
}

/** Puts new records (the newest first) before those that are known, and lets go of what is too old. */
export function keepLatest(
  known: readonly DecisionRecord[],
  latest: readonly DecisionRecord[],
  nowMs: number,
): readonly DecisionRecord[] {
  const ids = new Set(known.map(({ id }) => id));
  const added = latest.filter(({ id }) => !ids.has(id));
  const from = nowMs - WINDOW_MS;
  return [...added, ...known]
    .filter(({ time }) => Date.parse(time) >= from)
    .sort((a, b) => Date.parse(b.time) - Date.parse(a.time));
}

/** Each request counts where it came; a record stands for as many as its sample says. */
export function seriesOf(records: readonly DecisionRecord[], nowMs: number): Series {
  const count = WINDOW_MS / BUCKET_MS;
  const end = Math.ceil(nowMs / BUCKET_MS) * BUCKET_MS;
  const start = end - count * BUCKET_MS;
  const buckets = Array.from({ length: count }, () => ({ firstMs: [] as number[], tokens: 0, requests: 0 }));
  for (const record of records) {
    const bucket = buckets[Math.floor((Date.parse(record.time) - start) / BUCKET_MS)];
    if (bucket === undefined) continue;
    const stands = 1 / record['signpost.sample'];
    bucket.requests += stands;
    bucket.tokens += stands * (record['gen_ai.usage.output_tokens'] ?? 0);
    const first = record['gen_ai.response.time_to_first_chunk'];
    if (first !== undefined) bucket.firstMs.push(first * 1_000);
  }
  const perSecond = 1_000 / BUCKET_MS;
  return {
    at: buckets.map((_, i) => (start + i * BUCKET_MS) / 1_000),
    p50Ms: buckets.map(({ firstMs }) => quantile(firstMs, 0.5)),
    p95Ms: buckets.map(({ firstMs }) => quantile(firstMs, 0.95)),
    tokensPerSecond: buckets.map(({ tokens }) => tokens * perSecond),
    requestsPerSecond: buckets.map(({ requests }) => requests * perSecond),
  };
}

/** Over all of them, for the plot's text. */
export function summaryOf(records: readonly DecisionRecord[]): {
  readonly p50Ms: number | null;
  readonly p95Ms: number | null;
  readonly requests: number;
  readonly tokens: number;
} {
  const first = records.flatMap((record) => record['gen_ai.response.time_to_first_chunk'] ?? []).map((s) => s * 1_000);
  return {
    p50Ms: quantile(first, 0.5),
    p95Ms: quantile(first, 0.95),
    requests: records.length,
    tokens: records.reduce((sum, record) => sum + (record['gen_ai.usage.output_tokens'] ?? 0), 0),
  };
}

/** The nearest rank; null of nothing. */
export function quantile(values: readonly number[], q: number): number | null {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.max(0, Math.ceil(q * sorted.length) - 1)] ?? null;
}
