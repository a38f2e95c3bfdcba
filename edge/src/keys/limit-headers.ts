/**
 * How a key stands against its limits, as OpenAI's API tells it: `x-ratelimit-{limit,remaining,reset}-{requests,tokens}`. Source: its guide "Rate limits",
 * section "Rate limits in headers"; times are durations as Go writes them (`1s`, `6m0s`, `250ms`).
 */
import { ApiError } from '@signpost/contracts';
import type { Limit, Standing, Verdict } from './meter.ts';

/** None for what has no limit. Requests are those of a minute, tokens those of a UTC day. */
export function limitHeaders({ requests, tokens }: Standing): Record<string, string> {
  const headers: Record<string, string> = {};
  for (const [name, of] of Object.entries({ requests, tokens })) {
    if (of === undefined) continue;
    headers[`x-ratelimit-limit-${name}`] = String(of.limit);
    headers[`x-ratelimit-remaining-${name}`] = String(of.remaining);
    headers[`x-ratelimit-reset-${name}`] = duration(of.resetMs);
  }
  return headers;
}

/** The same for people: in `/v1/route` and the admin API. Null is without limit. */
export function standingView({ requests, tokens, concurrency }: Standing) {
  const timed = (of: Standing['tokens']) =>
    of === undefined ? null : { limit: of.limit, remaining: of.remaining, reset_ms: of.resetMs };
  return { requests_per_minute: timed(requests), tokens_per_day: timed(tokens), concurrency: concurrency ?? null };
}

/** `1h2m3s`, `6m0s`, `1s`, `250ms`; from a second on in whole seconds, rounded up. */
export function duration(ms: number): string {
  const whole = Math.ceil(ms);
  if (whole === 0) return '0s';
  if (whole < 1_000) return `${whole}ms`;
  const seconds = Math.ceil(ms / 1_000);
  const hours = Math.floor(seconds / 3_600);
  const minutes = Math.floor(seconds / 60) % 60;
  return `${hours > 0 ? `${hours}h` : ''}${hours > 0 || minutes > 0 ? `${minutes}m` : ''}${seconds % 60}s`;
}

type Refused = Extract<Verdict, { kind: 'limited' }>;

/** A 429 that says how the key stands. */
class LimitReached extends ApiError {
  readonly #headers: Readonly<Record<string, string>>;

  constructor({ by, retryAfterMs, standing }: Refused, tokens: number) {
    super(
      'rate_limit_error',
      by === 'tokens' ? 'insufficient_quota' : 'rate_limit_exceeded',
      MESSAGES[by](standing, tokens, retryAfterMs),
      retryAfterMs === undefined ? {} : { retryAfterSeconds: Math.ceil(retryAfterMs / 1_000) },
    );
    this.#headers = {
      ...limitHeaders(standing),
      // OpenAI's clients take every 429 for one that passes in seconds, unless they are told.
      ...(by === 'tokens' ? { 'x-should-retry': 'false' } : {}),
    };
  }

  override toResponse(headers: Record<string, string> = {}): Response {
    return super.toResponse({ ...this.#headers, ...headers });
  }
}

/** The error of a request that doesn't fit. @param tokens what it would have reserved. */
export function limitReached(refused: Refused, tokens: number): ApiError {
  return new LimitReached(refused, tokens);
}

const MESSAGES: Readonly<
  Record<Limit, (standing: Standing, tokens: number, retryAfterMs: number | undefined) => string>
> = {
  requests: ({ requests }, _, retryAfterMs) =>
    `this API key may make ${requests?.limit} requests a minute, and has; try again in ${duration(retryAfterMs ?? 0)}`,
  concurrency: ({ concurrency }) =>
    `this API key may have ${concurrency?.limit} answers under way at once, and has; try again when one has ended`,
  tokens: ({ tokens }, asked, retryAfterMs) =>
    `this request may come to ${asked} tokens (prompt and answer), and of the ${tokens?.limit} that this API key has a day ${tokens?.remaining} are left${
      retryAfterMs === undefined ? '' : ` until 00:00 UTC, in ${duration(tokens?.resetMs ?? 0)}`
    }; a smaller max_tokens may fit`,
};
