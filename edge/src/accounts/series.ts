/**
 * What `GET /metrics` shows, counted: by each isolate since it last told, and summed where all tell it (`ledger.ts`). A series is kept under its name and labels as
 * Prometheus writes them.
 */

export const METRICS = {
  signpost_requests_total: {
    kind: 'counter',
    help: 'Requests by path, experts, rule, region that answered and status',
  },
  signpost_endings_total: { kind: 'counter', help: 'How answers ended: whole, broken, left, refused, failed' },
  signpost_time_to_first_token_seconds: {
    kind: 'histogram',
    help: 'From a streamed request to its first token, at the edge',
    buckets: [0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6],
  },
  signpost_request_duration_seconds: {
    kind: 'histogram',
    help: 'From a request to the last byte of its answer',
    buckets: [0.005, 0.02, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120],
  },
  signpost_tokens_total: {
    kind: 'counter',
    help: 'Tokens by experts and type: input, cached (of those of the input), output',
  },
  signpost_retries_total: { kind: 'counter', help: 'How often another region was asked after a failure' },
  signpost_hedges_total: { kind: 'counter', help: 'How often another region was asked beside one that took its time' },
  signpost_resumes_total: { kind: 'counter', help: 'How often another region went on with a stream that broke' },
  signpost_classifier_total: {
    kind: 'counter',
    help: 'What the classifier came to: ready, abstained, skipped, cold, failed',
  },
  signpost_cache_total: { kind: 'counter', help: 'What the answer cache had, where a rule has one: hit, miss, bypass' },
  signpost_decisions_dropped_total: { kind: 'counter', help: 'Decision records that were lost, by reason' },
  signpost_feedback_total: { kind: 'counter', help: 'Feedback by verdict' },
  signpost_shadows_total: {
    kind: 'counter',
    help: 'Answers of rules with a shadow, by rule and what became of them: queued, unread (not one text), too_large, lost',
  },
  signpost_shadow_comparisons_total: {
    kind: 'counter',
    help: 'Comparisons of answers with their shadows, by rule and result: same, different, failed',
  },
  signpost_series_dropped_total: { kind: 'counter', help: 'Increments of series beyond the most that are kept' },
  signpost_decisions: { kind: 'gauge', help: 'Decision records at hand' },
  signpost_decisions_bytes: { kind: 'gauge', help: 'Their size' },
  signpost_isolates: { kind: 'gauge', help: 'Isolates of the Worker that told something in the last minute' },
  signpost_breaker_isolates: { kind: 'gauge', help: 'Of those, how many have this state for this region' },
  signpost_classifier_isolates: { kind: 'gauge', help: 'Of those, how many have a classifier in this state' },
  signpost_rules_isolates: { kind: 'gauge', help: 'Of those, how many route by these rules' },
  signpost_rules_age_seconds: {
    kind: 'gauge',
    help: 'The longest that one of those has not looked whether its rules are the current ones',
  },
} as const satisfies Readonly<Record<string, Metric>>;

type Metric =
  | { readonly kind: 'counter' | 'gauge'; readonly help: string }
  | { readonly kind: 'histogram'; readonly help: string; readonly buckets: readonly number[] };

export type MetricName = keyof typeof METRICS;
type NameOf<Kind> = { [Name in MetricName]: (typeof METRICS)[Name]['kind'] extends Kind ? Name : never }[MetricName];
export type CounterName = NameOf<'counter'>;
export type HistogramName = NameOf<'histogram'>;
export type GaugeName = NameOf<'gauge'>;

export type Labels = Readonly<Record<string, string | number | undefined>>;

/** Each series' increments: of a counter one number; of a histogram its buckets' counts, those above all of them, and the sum. */
export type Increments = readonly (readonly [series: string, by: readonly number[]])[];

export class SeriesCounts {
  readonly #counts = new Map<string, number[]>();

  get size(): number {
    return this.#counts.size;
  }

  add(name: CounterName, labels: Labels, by = 1): void {
    if (by === 0) return;
    const series = seriesOf(name, labels);
    const counts = this.#counts.get(series);
    if (counts === undefined) this.#counts.set(series, [by]);
    else counts[0] = (counts[0] ?? 0) + by;
  }

  observe(name: HistogramName, labels: Labels, value: number): void {
    const { buckets } = METRICS[name];
    const series = seriesOf(name, labels);
    const counts = this.#counts.get(series) ?? new Array<number>(buckets.length + 2).fill(0);
    this.#counts.set(series, counts);
    const bucket = buckets.findIndex((bound) => value <= bound);
    const at = bucket === -1 ? buckets.length : bucket;
    counts[at] = (counts[at] ?? 0) + 1;
    counts[buckets.length + 1] = (counts[buckets.length + 1] ?? 0) + value;
  }

  /** What was counted since the last time. */
  take(): Increments {
    const taken = [...this.#counts];
    this.#counts.clear();
    return taken;
  }

  /** Counts on. @returns the increments that would have made a series beyond `most`. */
  merge(increments: Increments, most = Number.POSITIVE_INFINITY): number {
    let dropped = 0;
    for (const [series, by] of increments) {
      const counts = this.#counts.get(series);
      if (counts !== undefined) for (const [i, value] of by.entries()) counts[i] = (counts[i] ?? 0) + value;
      else if (this.#counts.size < most) this.#counts.set(series, [...by]);
      else dropped++;
    }
    return dropped;
  }

  /** Everything counted so far. */
  all(): Increments {
    return [...this.#counts].sort(([a], [b]) => (a < b ? -1 : 1));
  }
}

/** `name{a="b"}`; labels without a value are left out. */
export function seriesOf(name: MetricName, labels: Labels): string {
  let text = '';
  for (const label in labels) {
    const value = labels[label];
    if (value !== undefined) text += `${text === '' ? '' : ','}${label}="${escaped(String(value))}"`;
  }
  return text === '' ? name : `${name}{${text}}`;
}

/** What a series has for a label; undefined where it has none. */
export function labelOf(series: string, label: string): string | undefined {
  for (const [, name, value = ''] of series.matchAll(/[{,](\w+)="((?:[^"\\]|\\.)*)"/g)) {
    if (name === label) return value.replace(/\\(.)/g, (_, char: string) => (char === 'n' ? '\n' : char));
  }
  return undefined;
}

function escaped(value: string): string {
  return /["\\\n]/.test(value) ? value.replace(/["\\]/g, '\\$&').replaceAll('\n', '\\n') : value;
}
