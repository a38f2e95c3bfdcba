/**
 * The plan: regions in the order in which they will be tried, by expected time to first token.
 *
 * That time is a sum of terms in milliseconds, each with its reason. So far the network's is the only one; queue, page-in and prefill join
 * it as entries of `TERMS`. A region that says it is draining comes after all that don't, however near it is.
 */
import type { HeardBeat } from '../fleet/roll.ts';
import { networkPrior, type Place } from './network.ts';
import type { Region } from './regions.ts';

interface PlanTerm {
  readonly term: 'network';
  readonly ms: number;
  /** What the figure rests on, for people. */
  readonly why: string;
}

export interface PlannedRegion {
  readonly region: Region;
  /** Expected time to first token: the sum of the terms. */
  readonly totalMs: number;
  readonly terms: readonly PlanTerm[];
  /** All of its containers have said that they take no new requests. */
  readonly isDraining: boolean;
}

type Estimate = (region: Region, app: Place) => PlanTerm;

const TERMS: readonly Estimate[] = [(region, app) => ({ term: 'network', ...networkPrior(app, region) })];

/**
 * Orders regions for an app at `app`; regions that come out equal keep the order they are configured in.
 *
 * @param allowed names from the rule; undefined allows all.
 * @param beats the latest of each container; a region that none is of is taken as it is configured.
 */
export function planRegions(
  regions: readonly Region[],
  app: Place,
  allowed: readonly string[] | undefined,
  beats: readonly HeardBeat[],
): readonly PlannedRegion[] {
  return regions
    .filter(({ name }) => allowed === undefined || allowed.includes(name))
    .map((region) => {
      const terms = TERMS.map((estimate) => estimate(region, app));
      const own = beats.filter(({ beat }) => beat.region === region.name);
      const isDraining = own.length > 0 && own.every(({ beat }) => beat.draining);
      return { region, terms, totalMs: terms.reduce((sum, { ms }) => sum + ms, 0), isDraining };
    })
    .sort((a, b) => Number(a.isDraining) - Number(b.isDraining) || a.totalMs - b.totalMs);
}
