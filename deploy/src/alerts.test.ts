/**
 * Alert rules, against the metrics that the code emits: a rule on a metric that nobody emits never fires, and nobody learns of it.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { METRICS as EDGE_METRICS } from '../../edge/src/accounts/series.ts';
import { Metrics } from '../../gpu-backend/src/server/metrics.ts';
import { readSeries } from './promql.ts';

const ROOT = join(import.meta.dirname, '../..');
const ALERTS = join(ROOT, 'deploy/alerts');
const read = (...path: string[]) => readFileSync(join(ROOT, ...path), 'utf8');

interface Rule {
  readonly alert: string;
  readonly expr: string;
  readonly labels: { readonly severity: string };
  readonly annotations: { readonly summary: string; readonly runbook: string };
}

const rules = readdirSync(ALERTS)
  .filter((name) => !name.includes('test'))
  .flatMap((name) =>
    (parse(read('deploy/alerts', name)) as { groups: { rules: Rule[] }[] }).groups.flatMap((group) => group.rules),
  );

/** Names as a scrape has them. A histogram's are three. */
async function emitted(): Promise<Set<string>> {
  const text = await new Metrics({
    region: 'test',
    blockTokens: 16,
    stats: () => Promise.reject(new Error('none')),
    modelNames: () => [],
    catalogueRevision: () => undefined,
  }).render();
  const kinds: [name: string, kind: string][] = [
    ...[...text.matchAll(/^# TYPE (\S+) (\S+)$/gm)].map(([, name = '', kind = '']): [string, string] => [name, kind]),
    ...Object.entries(EDGE_METRICS).map(([name, { kind }]): [string, string] => [name, kind]),
  ];
  return new Set(
    kinds.flatMap(([name, kind]) =>
      kind === 'histogram' ? [`${name}_bucket`, `${name}_sum`, `${name}_count`] : [name],
    ),
  );
}

/** What labels samples have, read off where they are counted. */
const sources = [
  'gpu-backend/src/server/metrics.ts',
  'gpu-backend/src/server/paging-metrics.ts',
  'edge/src/accounts/accounts.ts',
  'edge/src/accounts/ledger.ts',
  'edge/src/accounts/outbox.ts',
]
  .map((path) => read(path))
  .join('\n');

describe.each(rules)('$alert', ({ expr, labels, annotations }) => {
  it('reads metrics and labels that the code emits', async () => {
    const names = await emitted();
    const series = readSeries(expr);
    expect(series.length).toBeGreaterThan(0);
    for (const { metric, labels: selected } of series) {
      expect(names, metric).toContain(metric);
      for (const label of selected) expect(sources).toMatch(new RegExp(`\\b${label}\\b`));
    }
  });

  it('says how bad it is, and what to do, where that stands', () => {
    expect(['page', 'ticket']).toContain(labels.severity);
    const [, file = '', heading = ''] = /^(docs\/[\w.-]+\.md)#([\w-]+)$/.exec(annotations.runbook) ?? [];
    const anchors = [...read(file).matchAll(/^#+ (.+)$/gm)].map(([, title = '']) =>
      title
        .toLowerCase()
        .replace(/[^\w\s-]/g, '')
        .replaceAll(' ', '-'),
    );
    expect(anchors).toContain(heading);
  });
});

it('values of labels that rules look for are ones that the code gives', () => {
  for (const { expr } of rules)
    for (const [, label, value = ''] of expr.matchAll(/(\w+)="(\w+)"/g))
      expect(
        sources +
          read('gpu-backend/src/experts/residency.ts') +
          read('edge/src/forward/breaker.ts') +
          read('gpu-backend/src/runner/admission.ts'),
        `${label}="${value}"`,
      ).toMatch(new RegExp(`\\b${value}\\b`));
});

it('metrics that the chart and the docs name are ones that the code emits', async () => {
  const names = await emitted();
  const base = (name: string) => name.replace(/_(bucket|sum|count)$/, '');
  const known = new Set([...names, ...[...names].map(base)]);
  const { autoscaling } = parse(read('deploy/helm/signpost-region/values.yaml')) as { autoscaling: { metric: string } };
  // The custom metrics API has no colons.
  expect(known).toContain(autoscaling.metric.replace('_', ':'));
  // A data set of Analytics Engine, and the variable of an example.
  for (const page of ['docs/operations.md', 'docs/operating.md', 'docs/paging.md', 'docs/observability.md'])
    for (const [name] of read(page).matchAll(/\b(vllm:|signpost_)[a-z0-9_]*[a-z](?![a-z0-9_]*[{…*])/g))
      if (!['signpost_decisions'].includes(name)) expect(known, `${page}: ${name}`).toContain(name);
});

it.skipIf(spawnSync('promtool', ['--version']).status !== 0)(
  'promtool takes the rules, and they fire when they should',
  () => {
    for (const name of readdirSync(ALERTS)) {
      const command = name.includes('test') ? ['test', 'rules'] : ['check', 'rules'];
      expect(execFileSync('promtool', [...command, join(ALERTS, name)]).toString()).toContain('SUCCESS');
    }
  },
);

it('an expression that is none is told apart', () => {
  expect(() => readSeries('sum by (region (x)')).toThrow(/no PromQL at character/);
  expect(readSeries('rate(vllm:x_total{code="a", b!~"c"}[5m]) / on (d) y')).toEqual([
    { metric: 'vllm:x_total', labels: ['code', 'b'] },
    { metric: 'y', labels: [] },
  ]);
});
