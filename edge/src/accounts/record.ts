/**
 * A decision record out of what became known of a request.
 */
import { DECISION_SCHEMA, type DecisionRecord } from '@signpost/contracts';
import type { CacheFinding } from '../answers/cache.ts';
import type { Ask } from '../ask/ask.ts';
import type { Ending, Outcome } from '../forward/outcome.ts';
import type { PlannedRegion } from '../plan/plan.ts';
import type { AppPlace } from '../route/place.ts';
import type { Routing } from '../route/route.ts';
import { bodyFacts, headerFacts } from './facts.ts';
import type { Laps } from './laps.ts';
import type { TraceContext } from './trace.ts';

/** How a request ended that no region was asked for. */
interface Unserved {
  readonly ending: Exclude<Ending, 'broken'>;
  readonly status: number;
  readonly errorCode: string | undefined;
}

export type End = Outcome | Unserved;

export interface Known {
  readonly id: string;
  /** When the request came, in milliseconds since the epoch. */
  readonly at: number;
  readonly path: string;
  readonly headers: { get(name: string): string | null };
  readonly place: AppPlace;
  readonly trace: TraceContext;
  readonly laps: Laps;
  readonly tenant: string | undefined;
  readonly keyId: string | undefined;
  /** Undefined where its body could not be read, */
  readonly ask: Ask | undefined;
  /** and where it came to no decision. */
  readonly routing: Routing | undefined;
  /** Undefined where the answer cache wasn't asked. */
  readonly cache: CacheFinding | undefined;
  readonly end: End;
}

export interface RecordOptions {
  readonly sample: number;
  readonly prompts: 'recorded' | 'left out';
}

const MAX_PROMPT_CHARS = 16_384;
const MAX_NAME_CHARS = 512;

/** What isn't known is undefined, and so not in its JSON. */
export function recordOf(known: Known, { sample, prompts }: RecordOptions): DecisionRecord {
  const { ask, routing, cache, place, trace, laps, end } = known;
  const outcome = 'regions' in end ? end : undefined;
  const usage = outcome?.usage;
  const classification = routing?.classification;
  const verdict = classification !== undefined && 'verdict' in classification ? classification.verdict : undefined;
  const served = routing?.resolution.kind === 'serve' ? routing.resolution : undefined;
  // One literal with every name: objects of one shape are several times as quick to make and to write as JSON.
  return withoutUnknown({
    event: 'decision',
    schema: DECISION_SCHEMA,
    id: known.id,
    time: new Date(known.at).toISOString(),
    trace_id: trace.traceId,
    span_id: trace.spanId,
    'signpost.sample': sample,
    'url.path': known.path,
    'signpost.tenant': known.tenant,
    'signpost.key_id': known.keyId,
    'signpost.colo': place.colo,
    'geo.country.iso_code': place.country,
    'geo.continent.code': place.continent,
    'gen_ai.provider.name': 'signpost',
    'gen_ai.operation.name': known.path === '/v1/completions' ? 'text_completion' : 'chat',
    'gen_ai.request.model': ask?.model.slice(0, MAX_NAME_CHARS),
    'gen_ai.request.stream': ask && ask.delivery === 'stream',
    'signpost.prompt_chars': ask?.prompt.length,
    'signpost.prompt': prompts === 'recorded' ? ask?.prompt.slice(0, MAX_PROMPT_CHARS) : undefined,
    'signpost.classifier': routing?.classification.state,
    'signpost.label': verdict?.label,
    'signpost.confidence': verdict && rounded(verdict.confidence, 1e4),
    'signpost.rule': routing?.decision.rule,
    'signpost.rules.version': routing?.rules.version,
    'signpost.rules.source': routing?.rules.source,
    'gen_ai.response.model': served?.model.slice(0, MAX_NAME_CHARS),
    'signpost.plan': served && planText(served.plan),
    'signpost.digest': outcome === undefined ? cache?.digests : outcome.digests,
    'signpost.cache': cache?.state,
    'http.response.status_code': end.status,
    'signpost.ending': end.ending,
    'error.type': end.errorCode,
    'signpost.region': outcome?.regions.at(-1),
    'signpost.regions': outcome && outcome.regions.length > 1 ? outcome.regions.join(',') : undefined,
    'signpost.resumes': outcome?.resumes,
    'signpost.retries': outcome?.retries,
    'signpost.hedges': outcome?.hedges,
    'gen_ai.usage.input_tokens': usage?.promptTokens,
    'gen_ai.usage.output_tokens': usage?.completionTokens,
    'gen_ai.usage.cache_read.input_tokens': usage?.cachedTokens,
    'signpost.usage.counted_by': usage?.countedBy,
    'signpost.auth_ms': laps.of('auth'),
    'signpost.parse_ms': laps.of('parse'),
    'signpost.classify_ms': laps.of('classify'),
    'signpost.rules_ms': laps.of('rules'),
    'signpost.plan_ms': laps.of('plan'),
    'signpost.headers_ms': outcome?.headersMs,
    'gen_ai.response.time_to_first_chunk': firstChunkSeconds(laps.totalMs, outcome),
    'signpost.duration_ms': laps.totalMs,
    'signpost.facts.headers': routing && headerFacts(routing.rules.rules, known.headers),
    'signpost.facts.body': routing && ask && bodyFacts(routing.rules.rules, ask.body),
  });
}

function planText(plan: readonly PlannedRegion[]): string {
  let text = '';
  for (const { region, totalMs } of plan) text += `${text === '' ? '' : ','}${region.name}=${rounded(totalMs, 10)}`;
  return text;
}

/** What came before the forwarding is part of it. */
function firstChunkSeconds(totalMs: number, outcome: Outcome | undefined): number | undefined {
  if (outcome?.firstTokenMs === undefined) return undefined;
  return rounded((Math.max(0, totalMs - outcome.totalMs) + outcome.firstTokenMs) / 1e3, 1e4);
}

function rounded(value: number, parts: number): number {
  return Math.round(value * parts) / parts;
}

type Optional<T> = { readonly [K in keyof T]: T[K] | undefined };

function withoutUnknown(record: Optional<DecisionRecord>): DecisionRecord {
  // JSON leaves them out, and so does whoever asks for one; what must be there is.
  return record as DecisionRecord;
}
