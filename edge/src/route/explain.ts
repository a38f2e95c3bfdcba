/**
 * A decision for people: the answer of `POST /v1/route`.
 */
import { type Cacheability, cacheability } from '../answers/cacheable.ts';
import type { Ask } from '../ask/ask.ts';
import type { Classifier } from '../classify/classifier.ts';
import { residenciesIn } from '../fleet/residency.ts';
import type { HeardBeat } from '../fleet/roll.ts';
import { allowsModel } from '../keys/allowed-models.ts';
import type { Guest } from '../keys/door.ts';
import { standingView } from '../keys/limit-headers.ts';
import type { Asker, Routing } from './route.ts';

/** What an explanation rests on beside the decision. */
interface Circumstances {
  readonly beats: readonly HeardBeat[];
  readonly classifier: Classifier;
  /** Undefined where nobody's key is asked with. */
  readonly guest: Guest | undefined;
  /** Milliseconds since the epoch. */
  readonly now: number;
}

/** The explanation as JSON; times in milliseconds. */
export function explain(ask: Ask, asker: Asker, routing: Routing, { beats, classifier, guest, now }: Circumstances) {
  const { classification, decision, resolution, rules } = routing;
  return {
    object: 'route',
    request: {
      path: ask.path,
      model: ask.model,
      tenant: asker.tenant ?? null,
      continent: asker.place.continent ?? null,
      country: asker.place.country ?? null,
      colo: asker.place.colo ?? null,
      prompt_chars: ask.prompt.length,
    },
    /** How the key stands; explaining counts as no use. Null without a managed key. */
    key:
      guest?.keyId === undefined
        ? null
        : {
            id: guest.keyId,
            models: guest.models,
            allows: resolution.kind === 'serve' ? allowsModel(guest.models, resolution.model) : null,
            limits: standingView(guest.standing),
          },
    classifier: { state: classification.state, ...classifier.status },
    classification: 'verdict' in classification ? classification.verdict : null,
    rules: {
      source: rules.source,
      version: rules.version,
      number: rules.number ?? null,
      age_ms: now - rules.checkedAt,
      problem: rules.problem ?? null,
    },
    /** Rules looked at before, and what their conditions came to; `unknown`: they ask for a label, and there is none. */
    passed: decision.passed,
    rule: decision.rule,
    action: decision.action,
    ...(resolution.kind === 'refuse'
      ? {
          model: null,
          versions: null,
          cache: null,
          shadow: null,
          refused: resolution.reason,
          max_tokens: null,
          ahead: [],
          plan: [],
        }
      : {
          model: resolution.model,
          /** Of a channel that several versions share, the one that this request's key falls to; null where the catalogue isn't known. */
          versions:
            resolution.chosen.versions?.map(({ expert, selector, version, weight, share, by }) => ({
              expert,
              selector,
              digest: version.digest,
              weight,
              share,
              by,
            })) ?? null,
          cache: explainCache(cacheability(ask, asker.tenant, resolution, asker.headers, beats)),
          shadow: resolution.shadow ?? null,
          refused: null,
          max_tokens: resolution.changes.maxTokens ?? null,
          ahead: resolution.ahead,
          plan: resolution.plan.map(({ region, totalMs, terms, isDraining, isHeldBack, isAsleep }) => ({
            region: region.name,
            kind: region.kind ?? 'http',
            draining: isDraining,
            /** Overflow that isn't needed. */
            held_back: isHeldBack,
            /** It runs nothing, and is being woken where that is worth it. */
            asleep: isAsleep,
            total_ms: totalMs,
            terms,
            /** Where each of its containers has the model's experts; null where the catalogue isn't known. */
            experts:
              resolution.chosen.versions?.map(({ expert, version: { digest } }) => ({
                expert,
                digest,
                containers: residenciesIn(beats, region.name, digest),
              })) ?? null,
          })),
        }),
  };
}

/** Null where the rule keeps no answers; `bypass` says why this request has none. */
function explainCache(what: Cacheability) {
  switch (what.kind) {
    case 'off':
      return null;
    case 'bypass':
      return { bypass: what.why };
    case 'cacheable':
      return { bypass: null, ...what.rule };
    default:
      return what satisfies never;
  }
}
