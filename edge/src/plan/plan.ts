/**
 * The plan: regions in the order in which they will be tried, by expected time to first token.
 *
 * That time is a sum of terms in milliseconds, each with its reason: the network, as measured or else by geography; and, where the region has said how it is, the
 * queue, the experts' page-in and the prompt's prefill. A region that nothing was heard of is judged by its network alone, plus what the others
 * would take on average, and what it was sent from here: silence is no merit. One that says it is draining comes after all that don't, however near it is; and overflow after those that are there
 * for everyday, unless these would take too long. Last come those that run nothing.
 */
import { ApiError, type Catalogue } from '@signpost/contracts';
import type { ForeignLoad } from '../backends/foreign-load.ts';
import { serves } from '../backends/models.ts';
import type { HeardBeat } from '../fleet/roll.ts';
import { coldStartTerm, foreignTerms, priorPrefillTerm, sleepingTerms } from './foreign-terms.ts';
import { networkPrior, type Place } from './network.ts';
import { type OpenaiRegion, type Region, wakeHook } from './regions.ts';
import {
  type Load,
  type PlanTerm,
  pageInTerm,
  prefillTerm,
  queueTerm,
  unheardTerm,
  type Wanted,
  wantedBy,
} from './terms.ts';

export interface PlannedRegion {
  readonly region: Region;
  /** Expected time to first token: the sum of the terms. */
  readonly totalMs: number;
  readonly terms: readonly PlanTerm[];
  /** All of its containers have said that they take no new requests. */
  readonly isDraining: boolean;
  /** Overflow, and not needed. */
  readonly isHeldBack: boolean;
  /** It runs nothing, and would have to be woken. */
  readonly isAsleep: boolean;
}

/** What is known when a plan is made. */
export interface PlanFacts {
  /** Where the app is. */
  readonly app: Place;
  /** Undefined where nothing is generated. */
  readonly load: Load | undefined;
  /** The latest of each container. */
  readonly beats: readonly HeardBeat[];
  /** Whether a region with a hook runs nothing. */
  readonly isAsleep?: (region: Region) => boolean;
  readonly catalogue: Catalogue | undefined;
  /** Round trip to a region in milliseconds, as this isolate measured it, where geography says `usualMs`. */
  readonly networkMs: (region: string, usualMs: number) => number | undefined;
  /** Prompt tokens that a container has been sent from here since its heartbeat, and can't have computed yet; that the region has, where nothing was heard of it. */
  readonly sentSince?: (region: string, heard: HeardBeat | undefined, containers: number) => number;
  /** What a stranger's metrics say; undefined where it has none. */
  readonly foreignLoad?: (region: OpenaiRegion) => ForeignLoad | undefined;
  /** Since a region last answered this isolate; undefined where it hasn't. */
  readonly sinceAnsweredMs?: (region: string) => number | undefined;
}

/**
 * Orders regions; those that come out equal keep the order they are configured in.
 *
 * @param allowed names from the rule; undefined allows all.
 */
export function planRegions(
  regions: readonly Region[],
  allowed: readonly string[] | undefined,
  facts: PlanFacts,
): readonly PlannedRegion[] {
  const { load, catalogue } = facts;
  const wanted = load === undefined ? undefined : wantedBy(load, catalogue);
  const beatsOf = byRegion(facts.beats);
  const planned = regions
    .filter((region) => allowed === undefined || allowed.includes(region.name))
    .filter((region) => load === undefined || serves(region, load.model))
    .map((region) => {
      const beats = beatsOf.get(region.name) ?? [];
      // Who drains says nothing of how those are that take requests.
      const open = beats.filter(({ beat }) => !beat.draining);
      const isDraining = beats.length > 0 && open.length === 0;
      const isAsleep = facts.isAsleep?.(region) ?? false;
      return {
        region,
        isDraining,
        isAsleep,
        network: networkTerm(region, facts),
        load: loadTerms(region, open, facts, wanted),
      };
    });
  const heard = planned.flatMap(({ load }) => (load.length > 0 ? sum(load) : []));
  const usualMs = heard.length === 0 ? 0 : heard.reduce((a, b) => a + b, 0) / heard.length;
  const summed = planned.map(({ region, isDraining, isAsleep, network, load }) => {
    const silent = isAsleep
      ? sleepingTerms(wakeHook(region)?.usualMs ?? 0, facts.load)
      : [unheardTerm(usualMs, facts.sentSince?.(region.name, undefined, 1) ?? 0)];
    const rest = load.length > 0 || facts.load === undefined ? load : silent;
    const cold = region.kind === 'lambda' ? [coldStartTerm(region, facts.sinceAnsweredMs?.(region.name))] : [];
    const terms = [network, ...cold, ...rest];
    return { region, terms, totalMs: sum(terms), isDraining, isAsleep };
  });
  const isEveryday = ({ region, isDraining, isAsleep }: Omit<PlannedRegion, 'isHeldBack'>) =>
    region.role !== 'overflow' && !isDraining && !isAsleep;
  const bestMs = Math.min(...summed.map((one) => (isEveryday(one) ? one.totalMs : Number.POSITIVE_INFINITY)));
  return summed
    .map(
      (one): PlannedRegion => ({
        ...one,
        isHeldBack:
          one.region.role === 'overflow' &&
          Number.isFinite(bestMs) &&
          bestMs <= (one.region.overflowAfterMs ?? Number.POSITIVE_INFINITY),
      }),
    )
    .sort((a, b) => rank(a) - rank(b) || a.totalMs - b.totalMs);
}

/** Before what it takes counts. */
function rank({ isAsleep, isDraining, isHeldBack }: PlannedRegion): number {
  return isAsleep ? 3 : isDraining ? 2 : isHeldBack ? 1 : 0;
}

/** Regions that sleep, and would answer sooner than the first that doesn't if they were awake. */
export function worthWaking(plan: readonly PlannedRegion[]): Region[] {
  const first = plan.find(({ isAsleep }) => !isAsleep);
  const awakeMs = ({ terms }: PlannedRegion) => sum(terms.filter(({ term }) => term !== 'wake'));
  return plan
    .filter((one) => one.isAsleep && (first === undefined || first.isHeldBack || awakeMs(one) < first.totalMs))
    .map(({ region }) => region);
}

/** All that may answer sleep: an error that says when to come again. */
export function nobodyAwake(plan: readonly PlannedRegion[]): ApiError {
  const soonestMs = Math.min(...plan.map(({ region }) => wakeHook(region)?.usualMs ?? Number.POSITIVE_INFINITY));
  const names = plan.map(({ region }) => region.name).join(', ');
  return new ApiError('server_error', 'region_waking', `no region is awake; being started: ${names}`, {
    status: 503,
    retryAfterSeconds: Math.ceil(soonestMs / 1_000),
  });
}

function byRegion(beats: readonly HeardBeat[]): ReadonlyMap<string, readonly HeardBeat[]> {
  const byName = new Map<string, HeardBeat[]>();
  for (const heard of beats) {
    const known = byName.get(heard.beat.region);
    if (known === undefined) byName.set(heard.beat.region, [heard]);
    else known.push(heard);
  }
  return byName;
}

function networkTerm(region: Region, { app, networkMs }: PlanFacts): PlanTerm {
  const prior = networkPrior(app, region);
  const measured = networkMs(region.name, prior.ms);
  return { term: 'network', ...(measured === undefined ? prior : { ms: measured, why: 'measured' }) };
}

/** None where nothing was heard, or nothing is asked. */
function loadTerms(
  region: Region,
  heard: readonly HeardBeat[],
  { load, foreignLoad, sentSince }: PlanFacts,
  wanted: Wanted | undefined,
): PlanTerm[] {
  if (load === undefined || wanted === undefined) return [];
  if (region.kind === 'openai') return foreignTerms(foreignLoad?.(region), load);
  // Of Lambda every request has a container to itself.
  if (region.kind === 'lambda') return [priorPrefillTerm(load)];
  if (heard.length === 0) return [];
  const beats = heard.map(({ beat }) => beat);
  const since = heard.map((one) => sentSince?.(region.name, one, heard.length) ?? 0);
  return [queueTerm(beats, since), pageInTerm(beats, wanted), prefillTerm(beats, load)];
}

function sum(terms: readonly PlanTerm[]): number {
  return terms.reduce((total, { ms }) => total + ms, 0);
}
