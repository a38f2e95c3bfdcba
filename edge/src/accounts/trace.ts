/**
 * W3C trace context (Recommendation of 2021, and the level 2 draft): a request's trace goes on to the region under a span of the edge's own.
 */
import { toHex } from '@signpost/contracts';

export interface TraceContext {
  /** 32 hex characters. */
  readonly traceId: string;
  /** The edge's own, 16 hex characters. */
  readonly spanId: string;
  /** For the region; `tracestate` only where the app's own trace goes on. */
  readonly headers: Readonly<Record<string, string>>;
}

const TRACEPARENT =
  /^(?<version>[0-9a-f]{2})-(?<trace>[0-9a-f]{32})-(?<parent>[0-9a-f]{16})-(?<flags>[0-9a-f]{2})(?<more>-.*)?$/;
const NOBODY = /^0+$/;
const SAMPLED = 1;
/** Level 2: the trace id's last seven bytes are random. */
const RANDOM = 2;

/** The request's trace; a new one where it names none, or a malformed one, whose state isn't kept then (section 4.3). */
export function traceOf(headers: { get(name: string): string | null }): TraceContext {
  const spanId = randomHex(8);
  const given = headers.get('traceparent');
  const parent = given === null ? undefined : parse(given.trim());
  if (parent === undefined) {
    const traceId = randomHex(16);
    return { traceId, spanId, headers: { traceparent: `00-${traceId}-${spanId}-0${SAMPLED | RANDOM}` } };
  }
  const state = headers.get('tracestate');
  const traceparent = `00-${parent.traceId}-${spanId}-0${parent.flags}`;
  return {
    traceId: parent.traceId,
    spanId,
    headers: { traceparent, ...(state === null || state.trim() === '' ? {} : { tracestate: state }) },
  };
}

function parse(text: string): { readonly traceId: string; readonly flags: number } | undefined {
  const { version = 'ff', trace = '', parent = '', flags = '', more } = TRACEPARENT.exec(text)?.groups ?? {};
  // Of later versions what is known is read; of this one, nothing may follow.
  if (version === 'ff' || (version === '00' && more !== undefined)) return undefined;
  if (NOBODY.test(trace) || NOBODY.test(parent)) return undefined;
  return { traceId: trace, flags: Number.parseInt(flags, 16) & (SAMPLED | RANDOM) };
}

/** Drawn for many requests at once: most of a draw's time is the call. */
const pool = new Uint8Array(1_024);
let left = 0;

/** Never all zero, which would be no id. */
function randomHex(bytes: number): string {
  if (left < bytes) {
    crypto.getRandomValues(pool);
    left = pool.length;
  }
  left -= bytes;
  pool[left] = (pool[left] ?? 0) | 1;
  return toHex(pool.subarray(left, left + bytes));
}
