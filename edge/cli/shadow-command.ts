/**
 * `signpost shadow report`.
 */
import type { Command } from 'commander';
import type { ShadowPair, ShadowReport } from '../src/shadow/report.ts';
import { type AdminFlags, adminCommand, callAdmin } from './admin-client.ts';
import { table } from './table.ts';
import { timeAgo } from './time.ts';

interface ReportFlags extends AdminFlags {
  readonly rule?: string;
  readonly since?: string;
}

export function shadowReportCommand(): Command {
  return adminCommand('report')
    .description('how the answers of rules with a shadow compare with it')
    .option('--rule <name>', 'of this rule alone')
    .option('--since <when>', 'of the last 90d, 12h, 30m, or since a time (default: the latest 10,000)', timeAgo)
    .action(async (flags: ReportFlags) => {
      const query = new URLSearchParams({
        ...(flags.rule === undefined ? {} : { rule: flags.rule }),
        ...(flags.since === undefined ? {} : { since: flags.since }),
      });
      const report = await callAdmin<ShadowReport>(flags, { method: 'GET', path: `shadow?${query}` });
      console.log(flags.json ? JSON.stringify(report) : reportText(report));
    });
}

const HEAD = [
  'rule',
  'answers',
  'shadow',
  'compared',
  'failed',
  'same',
  'same at t=0',
  'words F1: mean, p10',
  'tokens',
  'p50 ms',
  'p95 ms',
];

function reportText({ comparisons, pairs }: ShadowReport): string {
  if (comparisons === 0) return 'nothing compared yet: does a rule have a shadow, and has it been asked since?';
  const examples = pairs.flatMap((pair) =>
    pair.examples.map(({ decision_id: id, similarity, texts }) =>
      [
        `${nameOf(pair)} and ${shadowOf(pair)} differ most (F1 ${similarity?.toFixed(3)}) in ${id}`,
        ...(texts === null
          ? []
          : [`  prompt: ${line(texts.prompt)}`, `  answer: ${line(texts.answer)}`, `  shadow: ${line(texts.shadow)}`]),
      ].join('\n'),
    ),
  );
  const failures = pairs.flatMap((pair) =>
    Object.entries(pair.errors).map(([error, count]) => `${shadowOf(pair)}: ${count} failed with ${error}`),
  );
  return [table([HEAD, ...pairs.map(row)]), ...failures, ...examples].join('\n');
}

function row(pair: ShadowPair): string[] {
  const { rule, compared, failed, same, greedy, similarity, tokens, ms_p50: p50, ms_p95: p95 } = pair;
  return [
    rule,
    nameOf(pair),
    shadowOf(pair),
    String(compared),
    String(failed),
    share(same, compared),
    share(greedy.same, greedy.compared),
    `${similarity.mean?.toFixed(3) ?? '-'}, ${similarity.p10?.toFixed(3) ?? '-'}`,
    sides(tokens),
    sides(p50),
    sides(p95),
  ];
}

function nameOf({ model, digests }: ShadowPair): string {
  return withDigests(model, digests);
}

function shadowOf({ shadow_model: model, shadow_digests: digests }: ShadowPair): string {
  return withDigests(model, digests);
}

function withDigests(model: string, digests: string | null): string {
  return digests === null ? model : `${model} (${digests.replace(/([0-9a-f]{8})[0-9a-f]{56}/g, '$1')})`;
}

function share(part: number, whole: number): string {
  return whole === 0 ? '-' : `${((100 * part) / whole).toFixed(1)} %`;
}

function sides([answer, shadow]: readonly [number | null, number | null]): string {
  return `${answer ?? '-'} : ${shadow ?? '-'}`;
}

function line(text: string): string {
  const one = text.replace(/\s+/g, ' ').trim();
  return one.length > 160 ? `${one.slice(0, 159)}…` : one;
}
