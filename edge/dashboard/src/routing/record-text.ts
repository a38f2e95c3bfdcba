/**
 * A decision record in words. No I/O.
 */
import type { DecisionRecord } from '../api/types.ts';
import { formatMs } from '../ui/numbers.ts';

type Line = readonly [name: string, value: string];

/** What is known of it, in the order in which it came about. */
export function describeDecision(record: DecisionRecord): Line[] {
  const part = (name: string, value: string | number | undefined): Line[] =>
    value === undefined || value === '' ? [] : [[name, String(value)]];
  const resumes = record['signpost.resumes'] ?? 0;
  const retries = record['signpost.retries'] ?? 0;
  const hedges = record['signpost.hedges'] ?? 0;
  return [
    ...part('Request', record.id),
    ...part('Asked for', record['gen_ai.request.model']),
    ...part('Tenant', record['signpost.tenant']),
    ...part('From', [record['geo.country.iso_code'], record['signpost.colo']].filter(Boolean).join(', ')),
    ...part(
      'Prompt',
      record['signpost.prompt'] ?? `${record['signpost.prompt_chars'] ?? '?'} characters, not recorded`,
    ),
    ...part('Classifier', record['signpost.classifier']),
    ...part(
      'Rules',
      record['signpost.rules.version'] && `${record['signpost.rules.source']} ${record['signpost.rules.version']}`,
    ),
    ...part('Plan', planText(record['signpost.plan'])),
    ...part(
      'Versions',
      record['signpost.digest']
        ?.split('+')
        .map((digest) => digest.slice(0, 8))
        .join(' + '),
    ),
    ...part('Answer cache', record['signpost.cache']),
    ...part('Asked regions', record['signpost.regions']?.replaceAll(',', ', ')),
    ...part(
      'On the way',
      [retries > 0 && `${retries} retries`, hedges > 0 && `${hedges} hedges`, resumes > 0 && `${resumes} resumes`]
        .filter(Boolean)
        .join(', '),
    ),
    ...part('Status', record['http.response.status_code']),
    ...part('Tokens', tokensText(record)),
    ...part('Took', formatMs(record['signpost.duration_ms'])),
  ];
}

/** `eu=12.5,us=90.1` as `eu 12.5 ms, us 90 ms`. */
function planText(plan: string | undefined): string | undefined {
  return plan
    ?.split(',')
    .map((entry) => {
      const at = entry.lastIndexOf('=');
      return `${entry.slice(0, at)} ${formatMs(Number(entry.slice(at + 1)))}`;
    })
    .join(', ');
}

function tokensText(record: DecisionRecord): string | undefined {
  const asked = record['gen_ai.usage.input_tokens'];
  const said = record['gen_ai.usage.output_tokens'];
  return asked === undefined && said === undefined ? undefined : `${asked ?? '?'} in, ${said ?? '?'} out`;
}
