/**
 * Time to first token and throughput, out of the decision records of the last minutes.
 */
import { useMemo } from 'preact/hooks';
import type { DecisionRecord } from '../api/types.ts';
import { formatMs } from '../ui/numbers.ts';
import { type Line, Plot } from './plot.tsx';
import { seriesOf, summaryOf, WINDOW_MS } from './window.ts';

const FIRST: readonly Line[] = [
  { name: 'p50', colour: '--line-1', dash: [], marks: 'shown' },
  { name: 'p95', colour: '--line-2', dash: [6, 3], marks: 'shown' },
];
const THROUGHPUT: readonly Line[] = [{ name: 'tokens/s', colour: '--line-3', dash: [], marks: 'none' }];

export function Plots({ records }: { readonly records: readonly DecisionRecord[] }) {
  const series = useMemo(() => seriesOf(records, Date.now()), [records]);
  const { p50Ms, p95Ms, requests, tokens } = useMemo(() => summaryOf(records), [records]);
  const span = `the last ${WINDOW_MS / 60_000} minutes`;
  const first =
    p50Ms === null || p95Ms === null
      ? `no answer in ${span}`
      : `p50 ${formatMs(p50Ms)}, p95 ${formatMs(p95Ms)} in ${span}`;
  return (
    <div class="plots">
      <Plot
        title="Time to first token"
        unit="ms"
        summary={first}
        lines={FIRST}
        at={series.at}
        values={[series.p50Ms, series.p95Ms]}
      />
      <Plot
        title="Throughput"
        unit="tokens/s"
        summary={`${requests} requests, ${tokens} tokens in ${span}`}
        lines={THROUGHPUT}
        at={series.at}
        values={[series.tokensPerSecond]}
      />
    </div>
  );
}
