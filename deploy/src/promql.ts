/**
 * Which series a PromQL expression reads, by Prometheus' own grammar.
 */

import { parser } from '@prometheus-io/lezer-promql';
import { Problem } from '@signpost/contracts';

export interface ReadSeries {
  readonly metric: string;
  /** Labels that it is selected by. */
  readonly labels: readonly string[];
}

/** @throws Problem where the expression is none. */
export function readSeries(expression: string): ReadSeries[] {
  const series: { metric: string; labels: string[] }[] = [];
  parser.parse(expression).iterate({
    enter({ type, from, to }) {
      const text = expression.slice(from, to);
      if (type.isError)
        throw new Problem(`no PromQL at character ${from}: …${expression.slice(Math.max(0, from - 20), from + 20)}…`);
      if (type.name === 'VectorSelector') series.push({ metric: '', labels: [] });
      const last = series.at(-1);
      if (last === undefined) return;
      if (type.name === 'Identifier' && last.metric === '') last.metric = text;
      if (type.name === 'LabelName' && expression.slice(from).match(/^\w+\s*(=|!)/)) last.labels.push(text);
    },
  });
  return series;
}
