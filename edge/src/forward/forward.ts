/**
 * Sending a request to the regions of a plan, one after the other until one answers.
 *
 * Another region is tried as long as the app has got nothing: until the first byte of an event stream, which then belongs to the region that
 * began it (see `relay.ts`), and until the last byte of anything else, which is read whole before it is passed on. A region that can't be
 * reached, times out, breaks off, or answers 502, 503, 504 (or one of Cloudflare's own 52x) is passed over. Anything else it says, errors
 * included, is the app's to see.
 */
import { ApiError, readText, signRequest } from '@signpost/contracts';
import type { Region } from '../plan/regions.ts';
import type { Timeouts } from '../settings/settings.ts';
import { relay } from './relay.ts';
import { withTimeout } from './timeout.ts';

export interface UpstreamRequest {
  readonly method: 'GET' | 'POST';
  readonly path: string;
  /** Empty for GET. */
  readonly body: string;
  readonly delivery: 'stream' | 'whole';
  readonly tenant: string | undefined;
  /** Passed on as they are. */
  readonly headers: Readonly<Record<string, string>>;
  /** Aborted when the app is gone. */
  readonly signal: AbortSignal;
}

export interface ForwardOptions {
  readonly signingKey: Uint8Array | undefined;
  readonly timeouts: Timeouts;
  readonly log: (event: string, fields: Record<string, unknown>) => void;
}

export interface Answer {
  readonly region: string;
  readonly response: Response;
}

/** 520 to 530 are what Cloudflare answers where it can't reach the region's origin. */
const UNAVAILABLE = new Set([502, 503, 504, 520, 521, 522, 523, 524, 525, 526, 527, 530]);
/** Of an answer that isn't streamed: hundreds of times the longest context with its log-probabilities. */
const MAX_ANSWER_BYTES = 32 * 1024 * 1024;
/** What a region's answer is passed on with. */
const PASSED_HEADERS = ['content-type', 'cache-control', 'retry-after', 'server-timing'];

/**
 * The first answer among `regions`, tried in order.
 *
 * @throws ApiError (503, `no_region_answered`) saying what became of each.
 */
export async function forward(
  request: UpstreamRequest,
  regions: readonly Region[],
  options: ForwardOptions,
): Promise<Answer> {
  const failures: string[] = [];
  for (const region of regions) {
    const outcome = await attempt(request, region, options);
    if (outcome instanceof Response) return { region: region.name, response: outcome };
    request.signal.throwIfAborted();
    failures.push(`${region.name}: ${outcome.failed}`);
    options.log('region_failed', { region: region.name, reason: outcome.failed, path: request.path });
  }
  throw new ApiError('server_error', 'no_region_answered', `no region answered (${failures.join('; ')})`, {
    status: 503,
  });
}

/** One region's answer once its first byte is here, or why there is none. */
async function attempt(
  request: UpstreamRequest,
  region: Region,
  options: ForwardOptions,
): Promise<Response | { failed: string }> {
  const controller = new AbortController();
  const abort = (reason: unknown) => controller.abort(reason);
  const appGone = () => abort(request.signal.reason);
  request.signal.addEventListener('abort', appGone, { once: true });
  const { firstByteMs, answerMs, idleMs } = options.timeouts;
  const waitMs = request.delivery === 'stream' ? firstByteMs : answerMs;
  try {
    return await withTimeout(answer(), waitMs, 'no answer');
  } catch (error) {
    abort(error);
    return { failed: error instanceof Error ? error.message : String(error) };
  }

  async function answer(): Promise<Response | { failed: string }> {
    const url = `${region.url}${request.path}`;
    const response = await fetch(url, {
      method: request.method,
      headers: await upstreamHeaders(request, region, new URL(url).pathname, options.signingKey),
      ...(request.method === 'POST' ? { body: request.body } : {}),
      redirect: 'manual',
      signal: controller.signal,
    });
    if (UNAVAILABLE.has(response.status)) {
      return { failed: `answered ${response.status} ${(await response.text()).slice(0, 200)}`.trimEnd() };
    }
    const { status } = response;
    const headers = passedHeaders(response);
    if (headers.get('content-type')?.startsWith('text/event-stream') !== true) {
      const whole = await readText(response, MAX_ANSWER_BYTES);
      if (whole === '' && response.ok) return { failed: `answered ${status} with an empty body` };
      return new Response(whole, { status, headers });
    }
    const reader = response.body?.getReader();
    const first = await reader?.read();
    if (reader === undefined || first === undefined || first.done)
      return { failed: `answered ${status} with an empty body` };
    const body = relay(first.value, reader, {
      idleMs,
      abort,
      onBreak: (error) =>
        options.log('stream_broken', { region: region.name, path: request.path, reason: String(error) }),
    });
    return new Response(body, { status, headers });
  }
}

async function upstreamHeaders(
  request: UpstreamRequest,
  region: Region,
  path: string,
  key: Uint8Array | undefined,
): Promise<Record<string, string>> {
  const { method, body, tenant } = request;
  return {
    ...request.headers,
    // Compressed event streams arrive in lumps.
    'accept-encoding': 'identity',
    ...(method === 'POST' ? { 'content-type': 'application/json' } : {}),
    ...(key === undefined
      ? {}
      : { authorization: `Bearer ${await signRequest(key, { region: region.name, method, path, body }, { tenant })}` }),
  };
}

function passedHeaders({ headers }: Response): Headers {
  const passed = new Headers();
  for (const name of PASSED_HEADERS) {
    const value = headers.get(name);
    if (value !== null) passed.set(name, value);
  }
  return passed;
}
