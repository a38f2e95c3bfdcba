/**
 * A decision as a data point of Workers Analytics Engine: at most 20 blobs, 20 doubles and an index of 96 bytes, 250 points an invocation.
 *
 * Columns are told by their place: what is added goes to the end, and nothing is ever moved.
 */
import type { DecisionRecord } from '@signpost/contracts';

export interface DataPoint {
  readonly indexes: string[];
  readonly blobs: string[];
  readonly doubles: number[];
}

/** `blob1` … of the dataset. */
export const BLOBS = [
  'id',
  'trace_id',
  'signpost.tenant',
  'signpost.key_id',
  'url.path',
  'gen_ai.request.model',
  'gen_ai.response.model',
  'signpost.rule',
  'signpost.rules.version',
  'signpost.classifier',
  'signpost.label',
  'signpost.region',
  'signpost.digest',
  'signpost.ending',
  'error.type',
  'signpost.colo',
  'geo.country.iso_code',
  'geo.continent.code',
  'signpost.cache',
] as const satisfies readonly (keyof DecisionRecord)[];

/** `double1` …; what isn't known is −1. */
export const DOUBLES = [
  'http.response.status_code',
  'signpost.duration_ms',
  'gen_ai.response.time_to_first_chunk',
  'signpost.headers_ms',
  'gen_ai.usage.input_tokens',
  'gen_ai.usage.output_tokens',
  'gen_ai.usage.cache_read.input_tokens',
  'signpost.confidence',
  'signpost.resumes',
  'signpost.retries',
  'signpost.hedges',
  'signpost.prompt_chars',
  'signpost.sample',
] as const satisfies readonly (keyof DecisionRecord)[];

const UNKNOWN = -1;
const MAX_BLOB_CHARS = 512;
const MAX_INDEX_CHARS = 96;

/** The index, by which Analytics Engine samples, is the tenant: a busy one doesn't thin out the others. */
export function dataPoint(record: DecisionRecord): DataPoint {
  return {
    // ASCII, so that characters are bytes.
    indexes: [(record['signpost.tenant'] ?? 'anonymous').replace(/[^\x20-\x7e]/g, '?').slice(0, MAX_INDEX_CHARS)],
    blobs: BLOBS.map((name) => (record[name] ?? '').slice(0, MAX_BLOB_CHARS)),
    doubles: DOUBLES.map((name) => record[name] ?? UNKNOWN),
  };
}
