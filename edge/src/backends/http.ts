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
  return fetch(url, {
    method: request.method,
    headers: await ourHeaders(request, region.name, `${prefixOf(region)}${request.path}`, body, signingKey),
    ...(request.method === 'POST' ? { body } : {}),
    redirect: 'manual',
    signal,
  });
}

/** By region: what stands before the paths of its API, as it sees them. */
const prefixes = new WeakMap<HttpRegion, string>();

function prefixOf(region: HttpRegion): string {
  const known = prefixes.get(region) ?? new URL(region.url).pathname.replace(/\/$/, '');
  prefixes.set(region, known);
  return known;
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
