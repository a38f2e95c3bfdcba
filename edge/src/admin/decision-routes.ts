/**
 * `/admin/decisions`, `/admin/feedback` and `/admin/rules/hits`: what was decided of late, whether that was right, and how often each rule did it.
 */
import { z } from 'zod';
import { type FeedbackOptions, takeFeedback } from '../accounts/feedback.ts';
import { pageResponse, type ReadPage } from '../accounts/pages.ts';
import { parseQuery } from './query.ts';
import type { AdminCall, AdminRoute } from './routes.ts';

export interface DecisionAdminParts {
  /** Records as JSON, the newest first. */
  readonly decisions: ReadPage;
  /** Requests by rule, as all isolates have counted them. */
  readonly ruleHits: () => Promise<readonly { readonly rule: string; readonly requests: number }[]>;
  readonly feedback: FeedbackOptions;
}

const DEFAULT_DECISIONS = 100;
const limitSchema = z.coerce.number().int().min(1).max(1_000);
const beforeSchema = z.coerce.number().int().positive();
const tenantSchema = z.string().min(1).max(256);

export function decisionRoutes(parts: DecisionAdminParts): AdminRoute[] {
  return [
    { path: '/admin/decisions', methods: { GET: (call) => list(parts, call) } },
    { path: '/admin/feedback', methods: { POST: (call) => judge(parts, call) } },
    { path: '/admin/rules/hits', methods: { GET: () => hits(parts) } },
  ];
}

async function list({ decisions, feedback }: DecisionAdminParts, { request }: AdminCall): Promise<Response> {
  const query = new URL(request.url).searchParams;
  const limit = parseQuery('limit', limitSchema, query.get('limit') ?? DEFAULT_DECISIONS);
  const before = parseQuery('before', beforeSchema.optional(), query.get('before') ?? undefined);
  await feedback.flush();
  return pageResponse(await decisions(limit, before));
}

/** Of a tenant's decision: request ids are the apps' own, so that two tenants may have the same. Without `tenant` it is one that had none. */
async function judge({ feedback }: DecisionAdminParts, { request }: AdminCall): Promise<Response> {
  const tenant = new URL(request.url).searchParams.get('tenant') ?? undefined;
  return takeFeedback(request, parseQuery('tenant', tenantSchema.optional(), tenant), feedback);
}

async function hits({ ruleHits }: DecisionAdminParts): Promise<Response> {
  return Response.json({ object: 'list', data: await ruleHits() });
}
