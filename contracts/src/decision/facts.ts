/**
 * What rules would have looked at, from a record: other rules can be tried on requests that have been.
 */
import type { RoutingFacts } from '../routing/evaluate.ts';
import { looksAt } from '../routing/looks-at.ts';
import type { RoutingRules } from '../routing/rules.ts';
import type { DecisionRecord } from './record.ts';

/**
 * A request's facts as far as they were recorded; undefined where its body could not be read. A prompt that wasn't recorded is as long as it was, and blank: see
 * `lacks`.
 */
export function factsOf(record: DecisionRecord): RoutingFacts | undefined {
  const model = record['gen_ai.request.model'];
  if (model === undefined) return undefined;
  const { 'signpost.label': label, 'signpost.confidence': confidence } = record;
  const headers = record['signpost.facts.headers'] ?? {};
  return {
    model,
    tenant: record['signpost.tenant'],
    path: record['url.path'],
    headers: { get: (name) => headers[name] ?? null },
    continent: record['geo.continent.code'],
    country: record['geo.country.iso_code'],
    colo: record['signpost.colo'],
    prompt: record['signpost.prompt'] ?? ' '.repeat(record['signpost.prompt_chars'] ?? 0),
    body: nested(record['signpost.facts.body'] ?? {}),
    now: Date.parse(record.time),
    classification:
      record['signpost.classifier'] === 'ready' && label !== undefined && confidence !== undefined
        ? { label, confidence }
        : undefined,
  };
}

/** What `rules` look at and the record doesn't have: `prompt`, `header x-team`, `body user`. Empty where the rules decide as they would have. */
export function lacks(record: DecisionRecord, rules: RoutingRules): string[] {
  const { headers, body, prompt } = looksAt(rules);
  const { 'signpost.facts.headers': heads = {}, 'signpost.facts.body': fields = {} } = record;
  const recorded = record['signpost.prompt'];
  const isCut = recorded === undefined || recorded.length < (record['signpost.prompt_chars'] ?? 0);
  return [
    ...(prompt && isCut && (record['signpost.prompt_chars'] ?? 0) > 0 ? ['prompt'] : []),
    ...[...headers].filter((name) => !Object.hasOwn(heads, name)).map((name) => `header ${name}`),
    ...[...body].filter((path) => !Object.hasOwn(fields, path)).map((path) => `body ${path}`),
  ];
}

/** `{ "a.b": 1 }` as `{ a: { b: 1 } }`. */
function nested(fields: Readonly<Record<string, unknown>>): Record<string, unknown> {
  const empty = (): Record<string, unknown> => Object.create(null);
  const root = empty();
  // The shorter ones first: `{}` for an object is filled by what is in it.
  for (const [path, value] of Object.entries(fields).sort(([a], [b]) => a.length - b.length)) {
    // To rules the same as no field at all.
    if (value === null) continue;
    const keys = path.split('.');
    const last = keys.pop() ?? '';
    let at: Record<string, unknown> = root;
    for (const key of keys) {
      const inner = at[key];
      const next = Object.assign(empty(), typeof inner === 'object' ? inner : {});
      at[key] = next;
      at = next;
    }
    at[last] = typeof value === 'object' && value !== null ? empty() : value;
  }
  return root;
}
