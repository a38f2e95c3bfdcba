import type { DecisionRecord } from '@signpost/contracts';
import { describe, expect, it } from 'vitest';
import { BLOBS, DOUBLES, dataPoint } from './data-point.ts';

const record = {
  id: 'r1',
  'signpost.tenant': 'ä'.repeat(200),
  'gen_ai.request.model': 'x'.repeat(5_000),
  'http.response.status_code': 200,
  'signpost.duration_ms': 12.5,
} as DecisionRecord;

describe('a data point', () => {
  it('has its columns in their places, which queries are written by', () => {
    // Only ever to be added to, at the end.
    expect(BLOBS.slice(0, 19)).toEqual([
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
    ]);
    expect(DOUBLES.slice(0, 13)).toEqual([
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
    ]);
    const { blobs, doubles } = dataPoint(record);
    expect([blobs[0], blobs[1], doubles[0], doubles[1], doubles[2]]).toEqual(['r1', '', 200, 12.5, -1]);
  });

  it('keeps to what Analytics Engine takes', () => {
    const { indexes, blobs, doubles } = dataPoint(record);
    const bytes = (text: string) => new TextEncoder().encode(text).length;
    expect(indexes.map(bytes)).toEqual([96]);
    expect(blobs.length).toBeLessThanOrEqual(20);
    expect(doubles.length).toBeLessThanOrEqual(20);
    expect(blobs.reduce((sum, blob) => sum + bytes(blob), 0)).toBeLessThanOrEqual(16_384);
  });
});
