import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Ledger } from './ledger.ts';
import type { IsolateReport } from './outbox.ts';
import { METRICS, SeriesCounts } from './series.ts';

const reportOf = (isolate: string, more: Partial<IsolateReport> = {}): IsolateReport => ({
  isolate,
  breakers: { eu: 'closed' },
  classifier: 'ready',
  rules: { version: 'v1', source: 'kv', checkedAt: 990_000 },
  ...more,
});

/** The text format by its grammar (prometheus.io/docs/instrumenting/exposition_formats), with each series' value. */
function parse(text: string): Map<string, number> {
  expect(text.endsWith('\n')).toBe(true);
  const values = new Map<string, number>();
  const typed = new Set<string>();
  for (const line of text.trimEnd().split('\n')) {
    const type = /^# TYPE (?<name>[a-z_:][a-z0-9_:]*) (?<kind>counter|gauge|histogram)$/.exec(line)?.groups;
    if (type !== undefined) {
      expect(typed.has(type.name ?? '')).toBe(false);
      typed.add(type.name ?? '');
      continue;
    }
    if (/^# HELP [a-z_:]+ \S.*$/.test(line)) continue;
    const sample =
      /^(?<series>(?<name>[a-z_:][a-z0-9_:]*)(?:\{(?:[a-z_]+="(?:[^"\\\n]|\\["\\n])*"(?:,(?!\})|(?=\})))+\})?) (?<value>-?[\d.e+-]+)$/.exec(
        line,
      )?.groups;
    if (sample === undefined) throw new Error(`no sample: ${line}`);
    expect([...typed].at(-1)).toBe(sample.name?.replace(/_(bucket|sum|count)$/, ''));
    expect(values.has(sample.series ?? '')).toBe(false);
    values.set(sample.series ?? '', Number(sample.value));
  }
  return values;
}

describe('the ledger', () => {
  it('sums what isolates tell, and writes it as Prometheus reads it', () => {
    const ledger = new Ledger();
    const counts = new SeriesCounts();
    for (const isolate of ['a', 'b']) {
      counts.add('signpost_requests_total', { path: '/v1/completions', rule: undefined, status: 200 }, 2);
      for (const seconds of [0.01, 0.1, 0.11, 99])
        counts.observe('signpost_time_to_first_token_seconds', { region: 'eu' }, seconds);
      ledger.hear({ counts: counts.take(), report: reportOf(isolate) }, 1_000_000);
    }
    const text = ledger.exposition(1_000_000, [{ name: 'signpost_decisions', labels: {}, value: 7 }]);
    const values = parse(text);
    expect(values.get('signpost_requests_total{path="/v1/completions",status="200"}')).toBe(4);
    const bucket = (le: string) => values.get(`signpost_time_to_first_token_seconds_bucket{region="eu",le="${le}"}`);
    expect(['0.025', '0.1', '0.2', '25.6', '+Inf'].map(bucket)).toEqual([2, 4, 6, 6, 8]);
    expect(values.get('signpost_time_to_first_token_seconds_count{region="eu"}')).toBe(8);
    expect(values.get('signpost_time_to_first_token_seconds_sum{region="eu"}')).toBeCloseTo(198.44);
    expect(values.get('signpost_decisions')).toBe(7);
    for (const name of Object.keys(METRICS)) expect(text).toContain(`# TYPE ${name} `);
  });

  it('goes on after a restart from what was saved', () => {
    const ledger = new Ledger();
    ledger.add('signpost_feedback_total', { verdict: 'right' });
    const later = new Ledger(JSON.parse(JSON.stringify(ledger.save())));
    later.add('signpost_feedback_total', { verdict: 'right' }, 2);
    expect(parse(later.exposition(0, [])).get('signpost_feedback_total{verdict="right"}')).toBe(3);
  });

  it('writes any label so that it is read back as one line', () => {
    fc.assert(
      fc.property(fc.string(), (rule) => {
        const counts = new SeriesCounts();
        counts.add('signpost_requests_total', { rule });
        const ledger = new Ledger();
        ledger.hear({ counts: counts.take(), report: reportOf('a') }, 0);
        expect(
          [...parse(ledger.exposition(0, [])).keys()].filter((one) => one.startsWith('signpost_requests_total')),
        ).toHaveLength(1);
      }),
    );
  });

  it('knows what isolates are like that it has heard from in the last minute', () => {
    const ledger = new Ledger();
    ledger.hear({ counts: [], report: reportOf('gone') }, 0);
    ledger.hear({ counts: [], report: reportOf('a', { breakers: { eu: 'open' } }) }, 50_000);
    ledger.hear({ counts: [], report: reportOf('b', { rules: undefined, classifier: 'cold' }) }, 50_000);
    ledger.hear(
      { counts: [], report: reportOf('b', { rules: { version: 'v2', source: 'kv', checkedAt: 30_000 } }) },
      60_001,
    );
    const values = parse(ledger.exposition(60_001, []));
    expect(values.get('signpost_isolates')).toBe(2);
    expect(values.get('signpost_breaker_isolates{region="eu",state="open"}')).toBe(1);
    expect(values.get('signpost_breaker_isolates{region="eu",state="closed"}')).toBe(1);
    expect(values.get('signpost_classifier_isolates{state="ready"}')).toBe(2);
    expect(values.get('signpost_rules_isolates{version="v2",source="kv"}')).toBe(1);
    expect(values.get('signpost_rules_age_seconds')).toBeCloseTo(30.001);
  });

  it('keeps a bounded number of series, and says what it left out', () => {
    const counts = new SeriesCounts();
    for (let i = 0; i < 5_010; i++) counts.add('signpost_requests_total', { rule: `r${i}` });
    const ledger = new Ledger();
    ledger.hear({ counts: counts.take(), report: reportOf('a') }, 0);
    expect(parse(ledger.exposition(0, [])).get('signpost_series_dropped_total')).toBe(10);
  });
});

it('sums a counter by one of its labels, whatever is in it', () => {
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.string({ unit: 'binary' }), fc.string(), fc.integer({ min: 1, max: 9 }))),
      (all) => {
        const counts = new SeriesCounts();
        const expected = new Map<string, number>();
        for (const [rule, path, by] of all) {
          counts.add('signpost_requests_total', { path, rule }, by);
          counts.add('signpost_retries_total', { rule }, by);
          expected.set(rule, (expected.get(rule) ?? 0) + by);
        }
        const sums = new Ledger(counts.take()).sumBy('signpost_requests_total', 'rule');
        expect(new Map(sums)).toEqual(expected);
        expect(sums.map(([, sum]) => sum)).toEqual([...expected.values()].sort((a, b) => b - a));
      },
    ),
    { numRuns: 20 },
  );
});
