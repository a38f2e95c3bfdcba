/**
 * `/admin/shadow`: how shadows compare with what answers.
 */
import { z } from 'zod';
import type { Comparison } from '../shadow/compare.ts';
import { reportOf } from '../shadow/report.ts';
import { parseQuery } from './query.ts';
import type { AdminCall, AdminRoute } from './routes.ts';

export interface ShadowAdminParts {
  /** The latest. */
  readonly comparisons: (limit: number) => Promise<readonly Comparison[]>;
}

const DEFAULT_COMPARISONS = 10_000;
const limitSchema = z.coerce.number().int().min(1).max(DEFAULT_COMPARISONS);

export function shadowRoutes({ comparisons }: ShadowAdminParts): AdminRoute[] {
  return [{ path: '/admin/shadow', methods: { GET: (call) => report(call, comparisons) } }];
}

async function report({ request }: AdminCall, comparisons: ShadowAdminParts['comparisons']): Promise<Response> {
  const query = new URL(request.url).searchParams;
  const limit = parseQuery('limit', limitSchema, query.get('limit') ?? DEFAULT_COMPARISONS);
  const since = parseQuery('since', z.iso.datetime({ offset: true }).optional(), query.get('since') ?? undefined);
  const rule = query.get('rule');
  const all = await comparisons(limit);
  const from = since === undefined ? Number.NEGATIVE_INFINITY : Date.parse(since);
  return Response.json(
    reportOf(all.filter((one) => (rule === null || one.rule === rule) && Date.parse(one.time) >= from)),
  );
}
