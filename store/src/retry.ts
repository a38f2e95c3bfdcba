/**
 * Requests to a store over a network, sent again while what fails may pass. The one place that does so: the clients beneath are told not to.
 *
 * Around each request rather than around a store, since a stream on its way up can't be read twice, while each part of it can be sent twice.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { PartsTaker } from './object-store.ts';

export interface RetryPolicy {
  /** Times that a request is sent in all. */
  readonly attempts: number;
  /** The wait after the n-th failure is drawn from 0 to `baseDelayMs` · 2ⁿ, at most `maxDelayMs`. */
  readonly baseDelayMs: number;
  readonly maxDelayMs: number;
  /** After this long, counted from the first attempt, none begins any more. */
  readonly deadlineMs: number;
  /**
   * A read to which fewer bytes have come for this long than `leastBytesPerSecond` asks for has failed; the next time that this happens, it is given twice as
   * long, at most `idleMs`. A connection that died in silence costs little, and a store that is slow gets its time.
   */
  readonly firstIdleMs: number;
  readonly idleMs: number;
  /** What a read must come at, lest a trickle keep it going for ever: an attempt takes no longer than its bytes do at this rate. */
  readonly leastBytesPerSecond: number;
}

export const RETRY_DEFAULTS: RetryPolicy = {
  attempts: 6,
  baseDelayMs: 100,
  maxDelayMs: 5_000,
  deadlineMs: 60_000,
  firstIdleMs: 2_500,
  idleMs: 10_000,
  // Of 200 kB/s that the sixteen reads of a base share each gets six times as much.
  leastBytesPerSecond: 2_048,
};

/** What one attempt of a read works with. */
export interface Attempt {
  /** Aborts when the caller does, and when too little comes in. */
  readonly signal: AbortSignal;
  /** The answer has begun: from here on its bytes count. */
  begun(): void;
  /** So many bytes came in. */
  progress(bytes: number): void;
}

/** An answer that is none: its status says whether another attempt makes sense. */
export class StatusError extends Error {
  override readonly name = 'StatusError';
  readonly status: number;
  readonly retryAfter: string | undefined;

  constructor(message: string, status: number, retryAfter: string | undefined) {
    super(message);
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

/** An answer that broke off, or that stopped coming. */
export class BrokenAnswer extends Error {
  override readonly name = 'BrokenAnswer';
}

const TRANSIENT_CODES = new Set([
  'EAI_AGAIN',
  'ECONNABORTED',
  'ECONNREFUSED',
  'ECONNRESET',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'EPIPE',
  'ERR_STREAM_PREMATURE_CLOSE',
  'ETIMEDOUT',
  'UND_ERR_BODY_TIMEOUT',
  'UND_ERR_CONNECT_TIMEOUT',
  'UND_ERR_HEADERS_TIMEOUT',
  'UND_ERR_SOCKET',
]);
/** S3's own names, some of which come with status 200 or 400. After a skewed clock was told of, the SDK signs with the right time. */
const TRANSIENT_NAMES = new Set([
  'InternalError',
  'RequestTimeout',
  'RequestTimeTooSkewed',
  'ServiceUnavailable',
  'SlowDown',
  'TimeoutError',
  'HTTPParserError',
]);

/**
 * Sends until it succeeds, fails for good, or the policy's bounds are reached; then the last failure is thrown. What a stream was read for must
 * not be read again by `send`.
 *
 * Full jitter: "Exponential Backoff And Jitter", AWS Architecture Blog, 2015. A server's Retry-After is waited for at least.
 *
 * @throws the `signal`'s reason when it aborts.
 */
export async function retrying<T>(
  policy: RetryPolicy,
  signal: AbortSignal | undefined,
  send: () => Promise<T>,
): Promise<T> {
  const started = performance.now();
  for (let attempt = 1; ; attempt++) {
    signal?.throwIfAborted();
    try {
      return await send();
    } catch (error) {
      // A client may make anything of being aborted.
      signal?.throwIfAborted();
      const transience = transienceOf(error);
      if (transience === undefined || attempt >= policy.attempts) throw error;
      const longest = Math.min(policy.maxDelayMs, policy.baseDelayMs * 2 ** attempt);
      const waitMs = transience.retryAfterMs + Math.random() * longest;
      if (performance.now() - started + waitMs > policy.deadlineMs) throw error;
      await sleep(waitMs, undefined, { signal }).catch(() => signal?.throwIfAborted());
    }
  }
}

/** `retrying` for a read: an attempt that stalls, or trickles, has failed. */
export function retryingRead<T>(
  policy: RetryPolicy,
  signal: AbortSignal | undefined,
  read: (attempt: Attempt) => Promise<T>,
): Promise<T> {
  let idleMs = Math.min(policy.idleMs, policy.firstIdleMs);
  return retrying(policy, signal, async () => {
    const stall = new AbortController();
    const leastBytes = Math.ceil((policy.leastBytesPerSecond * idleMs) / 1000);
    let came = 0;
    const timer = setTimeout(() => {
      const much = came === 0 ? 'nothing' : `only ${came} bytes`;
      stall.abort(new BrokenAnswer(`${much} came for ${idleMs} ms`));
    }, idleMs);
    const begun = () => {
      came = 0;
      timer.refresh();
    };
    try {
      return await read({
        signal: signal === undefined ? stall.signal : AbortSignal.any([signal, stall.signal]),
        begun,
        progress: (bytes) => {
          came += bytes;
          if (came >= leastBytes) begun();
        },
      });
    } catch (error) {
      if (!stall.signal.aborted) throw error;
      idleMs = Math.min(policy.idleMs, 2 * idleMs);
      throw stall.signal.reason;
    } finally {
      clearTimeout(timer);
    }
  });
}

/** What is taken on an answer's word before it has come. */
const MAX_AHEAD_BYTES = 64 * 2 ** 20;

/**
 * The bytes of an answer's body, which are `expected`, handed out in parts as they come. @throws BrokenAnswer when they are more or fewer.
 *
 * Copied once: pieces that are kept cost the garbage collector more than the copy does.
 */
async function collectParts(
  body: AsyncIterable<Uint8Array>,
  expected: number,
  { progress }: Attempt,
  { bytes: partBytes, take }: PartsTaker,
): Promise<void> {
  const partFrom = (at: number) => new Uint8Array(Math.min(partBytes, expected - at));
  let [begins, filled] = [0, 0];
  let part = partFrom(0);
  try {
    for await (const piece of body) {
      progress(piece.byteLength);
      for (let at = 0; at < piece.byteLength; ) {
        if (begins === expected) throw new BrokenAnswer(`more came than the ${expected} bytes that were asked for`);
        const count = Math.min(part.byteLength - filled, piece.byteLength - at);
        part.set(piece.subarray(at, at + count), filled);
        at += count;
        filled += count;
        if (filled < part.byteLength) continue;
        take(part, begins);
        begins += filled;
        filled = 0;
        part = partFrom(begins);
      }
    }
  } catch (cause) {
    if (cause instanceof BrokenAnswer) throw cause;
    throw brokenOff(begins + filled, cause);
  }
  if (begins < expected) throw new BrokenAnswer(`got ${begins + filled} of ${expected} bytes`);
}

function brokenOff(bytes: number, cause: unknown): BrokenAnswer {
  return new BrokenAnswer(`broke off after ${bytes} bytes: ${cause instanceof Error ? cause.message : cause}`, {
    cause,
  });
}

/** The bytes of an answer's body; none where `parts` takes them. @throws BrokenAnswer when they are not `expected`, where that is known. */
export async function collect(
  body: AsyncIterable<Uint8Array>,
  expected: number | undefined,
  attempt: Attempt,
  parts?: PartsTaker,
): Promise<Uint8Array> {
  const pieces: Uint8Array[] = [];
  if (expected !== undefined) {
    const take = (part: Uint8Array) => void pieces.push(part);
    await collectParts(body, expected, attempt, parts ?? { bytes: MAX_AHEAD_BYTES, take });
    return joined(pieces);
  }
  try {
    for await (const piece of body) {
      attempt.progress(piece.byteLength);
      pieces.push(piece);
    }
  } catch (cause) {
    throw brokenOff(joined(pieces).byteLength, cause);
  }
  return joined(pieces);
}

function joined(pieces: readonly Uint8Array[]): Uint8Array {
  const [only] = pieces;
  if (only !== undefined && pieces.length === 1) return only;
  const data = new Uint8Array(pieces.reduce((sum, { byteLength }) => sum + byteLength, 0));
  let at = 0;
  for (const piece of pieces) {
    data.set(piece, at);
    at += piece.byteLength;
  }
  return data;
}

/** `HPE_…`: what came is no HTTP. (Node 24's fetch leaves the code out.) */
function isTransientCode(code: string): boolean {
  return TRANSIENT_CODES.has(code) || code.startsWith('HPE_');
}

/** Undefined for a failure that would only repeat itself. */
function transienceOf(error: unknown): { readonly retryAfterMs: number } | undefined {
  if (!(error instanceof Error)) return undefined;
  const { status, retryAfter } = answerOf(error);
  if (status !== undefined && isTransientStatus(status)) return { retryAfterMs: retryAfterMs(retryAfter) };
  if (error instanceof BrokenAnswer || TRANSIENT_NAMES.has(error.name)) return { retryAfterMs: 0 };
  if ('code' in error && typeof error.code === 'string' && isTransientCode(error.code)) return { retryAfterMs: 0 };
  // `fetch` hides what happened behind "fetch failed".
  return error.cause === undefined ? undefined : transienceOf(error.cause);
}

/** What the server answered, if it did: to us, or to the AWS SDK. */
function answerOf(error: Error): { readonly status?: number; readonly retryAfter?: string | undefined } {
  if (error instanceof StatusError) return error;
  const { $metadata, $response } = error as {
    $metadata?: { httpStatusCode?: number };
    $response?: { headers?: Record<string, string> };
  };
  const status = $metadata?.httpStatusCode;
  return status === undefined ? {} : { status, retryAfter: $response?.headers?.['retry-after'] };
}

function isTransientStatus(status: number): boolean {
  return status === 408 || status === 429 || (status >= 500 && status !== 501 && status !== 505);
}

/** RFC 9110, 10.2.3: seconds, or a date. */
function retryAfterMs(header: string | undefined): number {
  if (header === undefined) return 0;
  const ms = /^\d+$/.test(header) ? Number(header) * 1000 : Date.parse(header) - Date.now();
  return Number.isNaN(ms) ? 0 : Math.max(0, ms);
}
