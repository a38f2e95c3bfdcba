/**
 * `GET /health`: how this isolate and, as far as it knows, the regions are. That is for administrators, or for everybody where everybody is served; anybody else is told
 * no more than that the edge is there.
 */
import { administratorOf } from '../auth/keys.ts';
import type { Classifier } from '../classify/classifier.ts';
import type { FleetHealth } from '../forward/region-health.ts';
import type { Region } from '../plan/regions.ts';
import type { RulesStore } from '../rules/store.ts';
import type { Settings } from '../settings/settings.ts';
import type { Knowledge } from './knowledge.ts';

export interface StatusParts {
  readonly settings: Settings;
  readonly rules: RulesStore;
  readonly classifier: Classifier;
  readonly health: FleetHealth;
  readonly knowledge: Knowledge;
}

export async function answerHealth(
  request: Request,
  { settings, rules, classifier, health, knowledge }: StatusParts,
  waitUntil: (promise: Promise<unknown>) => void,
): Promise<Response> {
  if (!(await maySee(request.headers.get('authorization'), settings))) return Response.json({ status: 'ok' });
  const beats = knowledge.beats(waitUntil) ?? [];
  const inForce = await rules.current(waitUntil);
  return Response.json({
    status: 'ok',
    classifier: classifier.status,
    rules: {
      source: inForce.source,
      version: inForce.version,
      number: inForce.number ?? null,
      problem: inForce.problem ?? null,
    },
    regions: settings.regions.map((region) => ({
      ...regionStatus(region, health, Date.now()),
      replicas: beats
        .filter(({ beat }) => beat.region === region.name)
        .map(({ beat: { replica, running, waiting, draining }, heardAt }) => ({
          replica,
          heard_ms_ago: Date.now() - heardAt,
          running,
          waiting,
          draining,
        })),
    })),
    anonymous: settings.anonymous,
  });
}

/** What this isolate knows of a region by itself. */
export function regionStatus({ name, kind = 'http', role = 'regular' }: Region, health: FleetHealth, now: number) {
  return { name, kind, role, ...health.state(name, now) };
}

async function maySee(authorization: string | null, { anonymous, administrators }: Settings): Promise<boolean> {
  if (anonymous === 'allowed') return true;
  if (authorization === null) return false;
  return (await administratorOf(authorization, administrators)) !== undefined;
}
