import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { traceOf } from './trace.ts';

const TRACE = '4bf92f3577b34da6a3ce929d0e0e4736';
const SPAN = '00f067aa0ba902b7';
const traced = (traceparent?: string, tracestate?: string) =>
  traceOf(
    new Headers({
      ...(traceparent === undefined ? {} : { traceparent }),
      ...(tracestate === undefined ? {} : { tracestate }),
    }),
  );

describe('a trace context', () => {
  it.each([
    [`00-${TRACE}-${SPAN}-01`, '01'],
    [`00-${TRACE}-${SPAN}-00`, '00'],
    // Of flags that aren't known nothing is passed on.
    [`00-${TRACE}-${SPAN}-ff`, '03'],
    // Of later versions what is known is read.
    [`cc-${TRACE}-${SPAN}-01-what-the-future-will-be-like`, '01'],
    [` 00-${TRACE}-${SPAN}-01 `, '01'],
  ])('%s goes on, with flags %s', (given, flags) => {
    const { traceId, spanId, headers } = traced(given, 'a=1');
    expect(traceId).toBe(TRACE);
    expect(spanId).not.toBe(SPAN);
    expect(headers).toEqual({ traceparent: `00-${TRACE}-${spanId}-${flags}`, tracestate: 'a=1' });
  });

  it.each([
    undefined,
    '',
    `00-${TRACE}-${SPAN}`,
    `00-${TRACE}-${SPAN}-01-more`,
    `ff-${TRACE}-${SPAN}-01`,
    `00-${'0'.repeat(32)}-${SPAN}-01`,
    `00-${TRACE}-${'0'.repeat(16)}-01`,
    `00-${TRACE.toUpperCase()}-${SPAN}-01`,
    `00-${TRACE}-${SPAN}-01, 00-${TRACE}-${SPAN}-01`,
    `cc-${TRACE}-${SPAN}-01.more`,
  ])('%s makes a new one, whose state begins with it', (given) => {
    const { traceId, spanId, headers } = traced(given, 'a=1');
    expect(traceId).not.toBe(TRACE);
    expect(headers).toEqual({ traceparent: `00-${traceId}-${spanId}-03` });
  });

  it('is always one that goes on unchanged at the next, whatever came in', () => {
    fc.assert(
      fc.property(
        fc.oneof(fc.string(), fc.stringMatching(/^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$/)),
        (given) => {
          const first = traceOf({ get: (name) => (name === 'traceparent' ? given : null) });
          expect(first.headers.traceparent).toMatch(/^00-[0-9a-f]{32}-[0-9a-f]{16}-0[0-3]$/);
          expect(traced(first.headers.traceparent).traceId).toBe(first.traceId);
        },
      ),
    );
  });
});
