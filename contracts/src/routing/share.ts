/**
 * Shares of requests that stay with whoever they fall to: the same key is on the same side each time, and another rule deals anew.
 */
import { z } from 'zod';
import { FNV_OFFSET, fnv1a } from '../fnv.ts';
import { valueAt } from './body-value.ts';

/** What requests are told apart by: `tenant`, `header NAME`, or a field of the body, `body PATH`. */
export const shareKeySchema = z
  .string()
  .regex(
    /^(?:tenant|header [a-z0-9-]+|body [^.\s]+(?:\.[^.\s]+)*)$/,
    'expected "tenant", "header <lower-case name>" or "body <dotted path>"',
  );

export interface ShareFacts {
  readonly tenant: string | undefined;
  readonly headers: { get(name: string): string | null };
  readonly body: Readonly<Record<string, unknown>>;
}

/** Where a request's key falls in [0, 1); undefined where it has none. Those without an API key are one tenant. */
export function pointOf(by: string, facts: ShareFacts, salt: string): number | undefined {
  const key = by === 'tenant' ? (facts.tenant ?? '') : keyOf(by, facts);
  return key === undefined ? undefined : hash(`${salt}\n${key}`) / 2 ** 32;
}

/** What a request is told apart by; undefined where it has none: no API key, no such header or field. */
export function keyOf(by: string, { tenant, headers, body }: ShareFacts): string | undefined {
  const { header, path } = keySource(by);
  if (header !== undefined) return headers.get(header) ?? undefined;
  if (path === undefined) return tenant;
  const value = valueAt(body, path);
  return typeof value === 'string' || typeof value === 'number' ? String(value) : undefined;
}

/** Where a request's key stands: in a header, at a dotted path of the body, or in neither, for tenants. */
export function keySource(by: string): { readonly header?: string; readonly path?: string } {
  const [kind, name = ''] = by.split(' ', 2);
  if (kind === 'tenant') return {};
  return kind === 'header' ? { header: name } : { path: name };
}

/** FNV-1a over UTF-16 units, then MurmurHash3's finaliser, since FNV's own high bits lag behind. */
function hash(text: string): number {
  let h = FNV_OFFSET;
  for (let i = 0; i < text.length; i++) h = fnv1a(h, text.charCodeAt(i));
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}
