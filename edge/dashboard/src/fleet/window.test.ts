import { expect, it } from 'vitest';
import type { DecisionRecord } from '../api/types.ts';
import { BUCKET_MS, keepLatest, quantile, seriesOf, summaryOf, WINDOW_MS } from './window.ts';

const NOW = Date.parse('2026-01-02T03:04:05.000Z');

function record(id: string, agoMs: number, more: Partial<DecisionRecord> = {}): DecisionRecord {
  return {
    event: 'decision',
    schema: 1,
    id,
    time: new Date(NOW - agoMs).toISOString(),
    trace_id: '',
    span_id: '',
    'signpost.sample': 1,
    'url.path': '/v1/chat/completions',
    'gen_ai.provider.name': 'signpost',
    'gen_ai.operation.name': 'chat',
    'http.response.status_code': 200,
    'signpost.ending': 'whole',
    'signpost.duration_ms': 1,
    ...more,
  };
}

it('keeps each record once, the newest first, for as long as the window is', () => {
  const known = [record('b', 2_000), record('a', 3_000), record('old', WINDOW_MS + 1)];
  const kept = keepLatest(known, [record('c', 1_000), record('b', 2_000)], NOW);
  expect(kept.map(({ id }) => id)).toEqual(['c', 'b', 'a']);
});

it('puts requests where they came, and says nothing of when there were none', () => {
  const first = (seconds: number) => ({
    'gen_ai.response.time_to_first_chunk': seconds,
    'gen_ai.usage.output_tokens': 10,
  });
  const records = [record('a', 1, first(0.1)), record('b', 2, first(0.3)), record('c', 3, { 'signpost.sample': 0.5 })];
  const series = seriesOf(records, NOW);
  expect(series.at).toHaveLength(WINDOW_MS / BUCKET_MS);
  expect(series.p50Ms.at(-1)).toBe(100);
  expect(series.p95Ms.at(-1)).toBe(300);
  expect(series.tokensPerSecond.at(-1)).toBe((20 * 1_000) / BUCKET_MS);
  expect(series.p50Ms.slice(0, -1).every((value) => value === null)).toBe(true);
  // A record that stands for two.
  expect(series.requestsPerSecond.at(-1)).toBe((4 * 1_000) / BUCKET_MS);
});

it('leaves out what lies beyond the window', () => {
  const { tokensPerSecond } = seriesOf([record('a', 2 * WINDOW_MS, { 'gen_ai.usage.output_tokens': 5 })], NOW);
  expect(Math.max(...tokensPerSecond)).toBe(0);
  expect(summaryOf([])).toEqual({ p50Ms: null, p95Ms: null, requests: 0, tokens: 0 });
});

it('takes quantiles by the nearest rank', () => {
  expect(quantile([3, 1, 2, 4], 0.5)).toBe(2);
  expect(quantile([3, 1, 2, 4], 0.95)).toBe(4);
  expect(quantile([], 0.5)).toBeNull();
});
