/**
 * One request on its way through the edge.
 */
import type { Account } from '../accounts/accounts.ts';
import type { Guest } from '../keys/door.ts';
import type { Asker } from '../route/route.ts';

/** What the platform knows about one request beside itself. */
export interface RequestContext {
  /** `request.cf` on Cloudflare. */
  readonly cf: unknown;
  readonly requestId: string;
  readonly waitUntil: (promise: Promise<unknown>) => void;
}

export interface Handling extends RequestContext {
  readonly request: Request;
  readonly account: Account;
}

export function askerOf({ tenant }: Guest, { request, account }: Handling): Asker {
  return { tenant, headers: request.headers, place: account.place };
}

/** Headers of the app that go on to the region: the request's identity, trace and deadline, nothing of the app's own. */
export function passedOn({ request, requestId, account }: Handling): Record<string, string> {
  const timeout = request.headers.get('x-signpost-timeout-ms');
  return {
    'x-request-id': requestId,
    ...account.trace.headers,
    ...(timeout === null ? {} : { 'x-signpost-timeout-ms': timeout }),
  };
}

export function withHeaders(response: Response, headers: Readonly<Record<string, string>>): Response {
  for (const [name, value] of Object.entries(headers)) response.headers.set(name, value);
  return response;
}
