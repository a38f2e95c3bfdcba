/**
 * `GET /health`: how this isolate and, as far as it knows, the regions are.
 */
import type { Classifier } from '../classify/classifier.ts';
import type { FleetHealth } from '../forward/region-health.ts';
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

export async function statusOf(
  { settings, rules, classifier, health, knowledge }: StatusParts,
  waitUntil: (promise: Promise<unknown>) => void,
): Promise<Response> {
  const beats = knowledge.beats(waitUntil);
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
    regions: settings.regions.map(({ name, kind = 'http', role = 'regular' }) => ({
      name,
      kind,
      role,
      ...health.state(name, Date.now()),
      replicas: beats
        .filter(({ beat }) => beat.region === name)
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
