/**
 * `/admin/route`: what would become of a request from anybody, anywhere, by the rules in force or by others. Nothing is asked of a region.
 */
import { parseBody, readText } from '@signpost/contracts';
import { z } from 'zod';
import { readAsk } from '../ask/ask.ts';
import type { Classifier } from '../classify/classifier.ts';
import type { Knowledge } from '../fleet/knowledge.ts';
import { explain } from '../route/explain.ts';
import { readPlace } from '../route/place.ts';
import { routeAsk } from '../route/route.ts';
import { parseRulesText } from '../rules/parse.ts';
import { type RulesInForce, type RulesStore, versionOf } from '../rules/store.ts';
import type { Settings } from '../settings/settings.ts';
import type { AdminCall, AdminRoute } from './routes.ts';

export interface TrialAdminParts {
  readonly settings: Pick<Settings, 'regions'>;
  readonly rules: RulesStore;
  readonly classifier: Classifier;
  readonly knowledge: Knowledge;
}

const trialSchema = z.strictObject({
  /** As an app would send it to an endpoint that generates. */
  request: z.record(z.string(), z.unknown()),
  tenant: z.string().min(1).max(256).optional(),
  headers: z.record(z.string().regex(/^[\w-]{1,128}$/, 'expected a header’s name'), z.string().max(4_096)).default({}),
  /** As Cloudflare tells it. */
  place: z
    .strictObject({
      continent: z.string().max(2).optional(),
      country: z.string().max(2).optional(),
      colo: z.string().max(8).optional(),
      latitude: z.number().min(-90).max(90).optional(),
      longitude: z.number().min(-180).max(180).optional(),
    })
    .optional(),
  /** The text of a `routing.yaml`; those in force where left out. */
  rules: z.string().min(1).optional(),
});

const MAX_TRIAL_BYTES = 1024 * 1024;

export function trialRoutes(parts: TrialAdminParts): AdminRoute[] {
  return [{ path: '/admin/route', methods: { POST: (call) => tryOut(parts, call) } }];
}

/** @throws ApiError or Problem (400) for a request, or rules, that are none. */
async function tryOut(
  { settings, rules, classifier, knowledge }: TrialAdminParts,
  { request, waitUntil }: AdminCall,
): Promise<Response> {
  const trial = parseBody(await readText(request, MAX_TRIAL_BYTES), trialSchema);
  const ask = await readAsk(
    new Request(request.url, { method: 'POST', body: JSON.stringify(trial.request) }),
    '/v1/route',
  );
  const { latitude, longitude, ...named } = trial.place ?? {};
  const place = { ...readPlace(trial.place === undefined ? request.cf : named), ...degrees(latitude, longitude) };
  const asker = { tenant: trial.tenant, headers: new Headers(trial.headers), place };
  const known = await knowledge.recent(waitUntil);
  const routing = await routeAsk(ask, asker, {
    classifier,
    rules: trial.rules === undefined ? await rules.current(waitUntil) : await given(trial.rules, settings),
    regions: settings.regions,
    known,
    now: Date.now(),
  });
  const now = Date.now();
  return Response.json(explain(ask, asker, routing, { beats: known.beats, classifier, guest: undefined, now }));
}

function degrees(latitude: number | undefined, longitude: number | undefined) {
  return latitude === undefined || longitude === undefined ? {} : { latitude, longitude };
}

async function given(text: string, { regions }: Pick<Settings, 'regions'>): Promise<RulesInForce> {
  const names = regions.map(({ name }) => name);
  return {
    rules: parseRulesText(text, 'the rules', names),
    source: 'given',
    version: await versionOf(text),
    number: undefined,
    checkedAt: Date.now(),
  };
}
