/**
 * A container of ours over HTTP: signed requests, each good for one request, once, for seconds.
 */
import { signRequest } from '@signpost/contracts';
import type { UpstreamRequest } from '../forward/upstream.ts';
import type { HttpRegion } from '../plan/regions.ts';
import type { BackendSecrets } from './backend.ts';

export async function sendHttp(
  request: UpstreamRequest,
  region: HttpRegion,
  { signingKey }: BackendSecrets,
  signal: AbortSignal,
): Promise<Response> {
  const url = `${region.url}${request.path}`;
  const body = bodyOf(request);
  const { pathname } = new URL(url);
  return fetch(url, {
    method: request.method,
    headers: await ourHeaders(request, region.name, pathname, body, signingKey),
    ...(request.method === 'POST' ? { body } : {}),
    redirect: 'manual',
    signal,
  });
}

/** The request's JSON; nothing for GET. */
export function bodyOf({ fields }: UpstreamRequest): string {
  return fields === undefined ? '' : JSON.stringify(fields);
}

/** @param path that the region sees, which is what the signature is for. */
export async function ourHeaders(
  { method, tenant, headers }: UpstreamRequest,
  region: string,
  path: string,
  body: string,
  key: Uint8Array | undefined,
): Promise<Record<string, string>> {
  return {
    ...headers,
    // Compressed event streams arrive in lumps.
    'accept-encoding': 'identity',
    ...(method === 'POST' ? { 'content-type': 'application/json' } : {}),
    ...(key === undefined
      ? {}
      : { authorization: `Bearer ${await signRequest(key, { region, method, path, body }, { tenant })}` }),
  };
}
