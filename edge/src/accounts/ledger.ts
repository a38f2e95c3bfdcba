/**
 * What all isolates have told, summed: for `GET /metrics`. One isolate of many answers a scrape, so what each has counted alone is of no use to Prometheus. No I/O.
 */
import { exposition, type GaugeValue } from './exposition.ts';
import type { Batch, IsolateReport } from './outbox.ts';
import { type CounterName, type Increments, type Labels, labelOf, SeriesCounts } from './series.ts';

const MAX_SERIES = 5_000;
/** An isolate that has told nothing for so long is taken to be gone. */
const SILENCE_MS = 60_000;
const MAX_ISOLATES = 10_000;

export class Ledger {
  readonly #counts = new SeriesCounts();
  readonly #isolates = new Map<string, { readonly report: IsolateReport; readonly at: number }>();

  /** @param saved what `save` gave. */
  constructor(saved: Increments = []) {
    this.#counts.merge(saved);
  }

  save(): Increments {
    return this.#counts.all();
  }

  hear({ counts, report }: Pick<Batch, 'counts' | 'report'>, now: number): void {
    this.#counts.add('signpost_series_dropped_total', {}, this.#counts.merge(counts, MAX_SERIES));
    // The latest last.
    this.#isolates.delete(report.isolate);
    this.#isolates.set(report.isolate, { report, at: now });
    for (const [isolate, { at }] of this.#isolates) {
      if (now - at <= SILENCE_MS && this.#isolates.size <= MAX_ISOLATES) break;
      this.#isolates.delete(isolate);
    }
  }

  add(name: CounterName, labels: Labels, by = 1): void {
    this.#counts.add(name, labels, by);
  }

  /** A counter's sums by one of its labels, the largest first; where it has none, under ''. */
  sumBy(name: CounterName, label: string): [value: string, sum: number][] {
    const sums = new Map<string, number>();
    for (const [series, [by = 0]] of this.save()) {
      if (series !== name && !series.startsWith(`${name}{`)) continue;
      const value = labelOf(series, label) ?? '';
      sums.set(value, (sums.get(value) ?? 0) + by);
    }
    return [...sums].sort(([, a], [, b]) => b - a);
  }

  /** @param more gauges of whoever keeps the ledger. */
  exposition(now: number, more: readonly GaugeValue[]): string {
    return exposition(this.save(), [...more, ...this.#gauges(now)]);
  }

  #gauges(now: number): GaugeValue[] {
    const reports = [...this.#isolates.values()].filter(({ at }) => now - at <= SILENCE_MS).map(({ report }) => report);
    const breakers = reports.flatMap(({ breakers }) =>
      Object.entries(breakers).map(([region, state]) => ({ region, state })),
    );
    const rules = reports.flatMap(({ rules }) => rules ?? []);
    const oldest = rules.reduce((least, { checkedAt }) => Math.min(least, checkedAt), now);
    return [
      { name: 'signpost_isolates', labels: {}, value: reports.length },
      ...counted('signpost_breaker_isolates', breakers),
      ...counted(
        'signpost_classifier_isolates',
        reports.map(({ classifier: state }) => ({ state })),
      ),
      ...counted(
        'signpost_rules_isolates',
        rules.map(({ version, source }) => ({ version, source })),
      ),
      { name: 'signpost_rules_age_seconds', labels: {}, value: (now - oldest) / 1e3 },
    ];
  }
}

/** One gauge for each of different labels: how often they are there. */
function counted(name: GaugeValue['name'], all: readonly Labels[]): GaugeValue[] {
  const found = new Map<string, { readonly labels: Labels; value: number }>();
  for (const labels of all) {
    const key = JSON.stringify(labels);
    const one = found.get(key) ?? { labels, value: 0 };
    one.value++;
    found.set(key, one);
  }
  return [...found.values()].map(({ labels, value }) => ({ name, labels, value }));
}
