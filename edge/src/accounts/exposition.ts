/**
 * Counts and gauges as Prometheus' text format, version 0.0.4.
 */
import { type GaugeName, type Increments, type Labels, METRICS, type MetricName, seriesOf } from './series.ts';

export const EXPOSITION_TYPE = 'text/plain; version=0.0.4; charset=utf-8';

export interface GaugeValue {
  readonly name: GaugeName;
  readonly labels: Labels;
  readonly value: number;
}

/** Every metric with its help and type, also those that have no series yet. */
export function exposition(counts: Increments, gauges: readonly GaugeValue[]): string {
  const lines = new Map<string, string[]>(Object.keys(METRICS).map((name) => [name, []]));
  for (const [series, values] of counts) {
    const name = nameOf(series);
    lines.get(name)?.push(...linesOf(name as MetricName, series, values));
  }
  for (const { name, labels, value } of gauges) lines.get(name)?.push(`${seriesOf(name, labels)} ${value}`);
  const parts = Object.entries(METRICS).map(([name, { kind, help }]) =>
    [`# HELP ${name} ${help}`, `# TYPE ${name} ${kind}`, ...(lines.get(name) ?? [])].join('\n'),
  );
  return `${parts.join('\n')}\n`;
}

function nameOf(series: string): string {
  const end = series.indexOf('{');
  return end === -1 ? series : series.slice(0, end);
}

function linesOf(name: MetricName, series: string, values: readonly number[]): string[] {
  const metric = METRICS[name];
  if (metric === undefined) return [];
  if (metric.kind !== 'histogram') return [`${series} ${values[0] ?? 0}`];
  const labels = series.slice(name.length + 1, -1);
  const within = (suffix: string, more = '') => {
    const all = [labels, more].filter((one) => one !== '').join(',');
    return `${name}${suffix}${all === '' ? '' : `{${all}}`}`;
  };
  let total = 0;
  const buckets = [...metric.buckets, '+Inf'].map((bound, i) => {
    total += values[i] ?? 0;
    return `${within('_bucket', `le="${bound}"`)} ${total}`;
  });
  return [...buckets, `${within('_sum')} ${values[metric.buckets.length + 1] ?? 0}`, `${within('_count')} ${total}`];
}
