/**
 * What new rules change, for people.
 */
import type { ConfigChange } from '../src/admin/config-routes.ts';
import type { DryRun } from '../src/config/dry-run.ts';
import { table } from './table.ts';

export function changesText({ result, from, version, would_change: tried }: ConfigChange): string {
  const head = {
    dry_run: `would follow version ${from}`,
    unchanged: `these are the rules that are there already, version ${version}`,
    written: `version ${version} follows version ${from}, and is in force everywhere within a minute`,
  }[result];
  return [
    head,
    ...(tried === null ? ['past decisions can not be read: what changes is not known'] : tryText(tried)),
  ].join('\n');
}

function tryText({ requests, unchanged, changed, unknown, changes, undecided, rules, models }: DryRun): string[] {
  if (requests === 0) return ['no request has been recorded to try them on'];
  return [
    `of the latest ${requests} requests: ${unchanged} the same, ${changed} changed, ${unknown} unknown`,
    ...changes.map(({ requests: of, before, after, fields, examples: [example] }) => {
      const such =
        example === undefined ? '' : `, such as ${example.id} (${example.tenant ?? 'nobody'}: ${example.model})`;
      return `  ${of}: ${outcomeText(before)} becomes ${outcomeText(after)}${besideText(fields)}${such}`;
    }),
    ...undecided.map(({ rule, requests: of }) => `  ${of} hang on what was not recorded and rule "${rule}" looks at`),
    ...(changed === 0 ? [] : ['', countsText('rule', rules), '', countsText('model', models)]),
  ];
}

function outcomeText({ rule, model, refused }: DryRun['changes'][number]['before']): string {
  return `${rule} → ${model ?? `refused (${refused})`}`;
}

/** What differs beside the model; nothing goes with a refusal. */
function besideText(fields: readonly string[]): string {
  const beside = fields.includes('refuse') ? [] : fields.filter((name) => name !== 'model');
  return beside.length === 0 ? '' : ` (differs in ${beside.join(', ')})`;
}

function countsText(of: string, counts: DryRun['rules']): string {
  const rows = counts.map(({ name, before, after }) => [name, String(before), String(after)]);
  return table([[of, 'before', 'after'], ...rows]);
}
