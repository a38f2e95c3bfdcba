/**
 * One decision: classify, decide by the rules, resolve the model, plan the regions.
 *
 * Served requests and explanations (`POST /v1/route`) both come out of `routeAsk`; there is no second path that could disagree.
 */
import {
  ApiError,
  type CacheRule,
  type Catalogue,
  type Decision,
  decide,
  expertOfLabel,
  formatModelName,
  Problem,
  parseModelName,
  type ShadowRule,
  softMixture,
} from '@signpost/contracts';
import type { Laps } from '../accounts/laps.ts';
import { type Ask, CHARS_PER_TOKEN, type RuleChanges } from '../ask/ask.ts';
import type { Classification, Classifier } from '../classify/classifier.ts';
import type { Known } from '../fleet/knowledge.ts';
import { type PlannedRegion, planRegions } from '../plan/plan.ts';
import { type Marks, marksOf } from '../plan/prefixes.ts';
import type { Region } from '../plan/regions.ts';
import type { Load } from '../plan/terms.ts';
import type { RulesInForce } from '../rules/store.ts';
import { misconfigured } from '../settings/misconfigured.ts';
import type { AppPlace } from './place.ts';
import { type ChosenModel, chooseVersions } from './versions.ts';

/** Who asks, from where, with which headers. */
export interface Asker {
  readonly tenant: string | undefined;
  readonly headers: { get(name: string): string | null };
  readonly place: AppPlace;
}

/** What became of a request: served by a model and regions, or refused by a rule. */
type Resolution =
  | {
      readonly kind: 'serve';
      readonly model: string;
      /** Its versions, and how regions are asked for them. */
      readonly chosen: ChosenModel;
      readonly cache: CacheRule | undefined;
      readonly shadow: ShadowRule | undefined;
      readonly changes: RuleChanges;
      readonly plan: readonly PlannedRegion[];
      readonly load: Load;
      /** The plan by what is known later. */
      readonly planBy: (known: Known) => readonly PlannedRegion[];
      /** Of the prompt's beginnings: the region that answers has them cached. */
      readonly marks: Marks;
      /** Models that the conversation may go on with: what the prompt's next likely labels would have been answered by. */
      readonly ahead: readonly string[];
    }
  | { readonly kind: 'refuse'; readonly reason: string };

export type ServedResolution = Extract<Resolution, { readonly kind: 'serve' }>;

export interface Routing {
  readonly classification: Classification;
  readonly rules: RulesInForce;
  readonly decision: Decision;
  readonly resolution: Resolution;
}

/** @throws ApiError (400) for a model name that is none, (500, `misconfigured`) for rules that resolve to no model. */
export async function routeAsk(
  ask: Ask,
  asker: Asker,
  using: {
    readonly classifier: Classifier;
    readonly rules: RulesInForce;
    readonly regions: readonly Region[];
    readonly known: Known;
    /** Milliseconds since the epoch. */
    readonly now: number;
    readonly laps?: Laps;
  },
): Promise<Routing> {
  const classification = await using.classifier.classify(ask.prompt);
  using.laps?.lap('classify');
  const { tenant, headers, place } = asker;
  const facts = {
    model: ask.model,
    tenant,
    path: ask.path,
    headers,
    continent: place.continent,
    country: place.country,
    colo: place.colo,
    prompt: ask.prompt,
    body: ask.body,
    now: using.now,
  };
  const verdict = classification.state === 'ready' ? classification.verdict : undefined;
  const decision = decide(using.rules.rules, { ...facts, classification: verdict });
  using.laps?.lap('rules');
  const resolution = resolve(ask, asker, decision, classification, using);
  using.laps?.lap('plan');
  const likely = resolution.kind === 'refuse' ? [] : likelyBeside(verdict?.label, classification);
  if (resolution.kind === 'refuse' || likely.length === 0)
    return { classification, rules: using.rules, decision, resolution };
  const others = likely.map(({ label, confidence }) => ({
    label,
    ...decide(using.rules.rules, { ...facts, classification: { label, confidence } }),
  }));
  using.laps?.lap('rules');
  const ahead = others.flatMap(({ model, label }) => {
    const named = model === 'label' ? labelled(using.known.catalogue, label) : model;
    return named === undefined || named === 'requested' || named === resolution.model ? [] : named;
  });
  return { classification, rules: using.rules, decision, resolution: { ...resolution, ahead: [...new Set(ahead)] } };
}

/** A label that is less likely is not worth an expert's way to the region. */
const MIN_AHEAD = 0.2;

/** Labels that a prompt may have had beside the one it got, the likeliest first. */
function likelyBeside(got: string | undefined, classification: Classification) {
  const likely: { readonly label: string; readonly confidence: number }[] = [];
  if (!('verdict' in classification)) return likely;
  const { probabilities } = classification.verdict;
  for (const label in probabilities) {
    const confidence = probabilities[label] ?? 0;
    if (label !== got && confidence >= MIN_AHEAD) likely.push({ label, confidence });
  }
  return likely.sort((a, b) => b.confidence - a.confidence);
}

function resolve(
  ask: Ask,
  { tenant, headers, place }: Asker,
  decision: Decision,
  classification: Classification,
  { regions, known }: { readonly regions: readonly Region[]; readonly known: Known },
): Resolution {
  const { action } = decision;
  if ('refuse' in action) return { kind: 'refuse', reason: action.refuse };
  const model = modelFor(ask, decision, classification, known.catalogue);
  const facts = { tenant, headers, body: ask.body };
  const chosen = chooseVersions(model, action.stickyBy ?? 'tenant', facts, known.catalogue);
  const marks = marksOf(`${tenant ?? ''}\n${chosen.name}\n${action.systemPrefix ?? ''}\n`, ask.text);
  const cached = known.prefixes.cachedChars(marks);
  const load: Load = {
    model: chosen.name,
    promptTokens: ask.promptTokens,
    ...(cached && { cachedTokens: (region) => Math.floor((cached.get(region) ?? 0) / CHARS_PER_TOKEN) }),
  };
  const planBy = (by: Known) => planRegions(regions, action.regions, { ...by, app: place, load });
  return {
    kind: 'serve',
    model,
    chosen,
    marks,
    cache: action.cache,
    shadow: action.shadow,
    changes: { maxTokens: action.limits?.maxTokens, systemPrefix: action.systemPrefix },
    load,
    plan: planBy(known),
    planBy,
    ahead: [],
  };
}

function modelFor(
  ask: Ask,
  { rule, action, model: named = '' }: Decision,
  classification: Classification,
  catalogue: Catalogue | undefined,
): string {
  if (named === 'requested') return requestedModel(ask.model, rule);
  if ('mixture' in action) {
    // One that is unsure mixes, too: that is what a mixture is for.
    const probabilities = 'verdict' in classification ? classification.verdict.probabilities : {};
    return softMixture(probabilities, action.mixture, (label) => labelled(catalogue, label)) ?? action.otherwise;
  }
  if (named !== 'label') return named;
  const label = classification.state === 'ready' ? classification.verdict.label : undefined;
  const otherwise = 'otherwise' in action ? action.otherwise : undefined;
  return labelled(catalogue, label) ?? otherwise ?? '';
}

function labelled(catalogue: Catalogue | undefined, label: string | undefined): string | undefined {
  return catalogue === undefined || label === undefined ? undefined : expertOfLabel(catalogue, label);
}

function requestedModel(name: string, rule: string): string {
  try {
    const model = parseModelName(name);
    if (model.kind === 'auto')
      throw misconfigured(`rule "${rule}" hands on the requested model, but the app asked for "auto"`);
    return formatModelName(model);
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    throw new ApiError('invalid_request_error', 'invalid_model', error.message, { param: 'model', cause: error });
  }
}
