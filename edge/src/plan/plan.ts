/**
 * The plan: regions in the order in which they will be tried, by expected time to first token.
 *
 * That time is a sum of terms in milliseconds, each with its reason. So far the network's is the only one; queue, page-in and prefill join
 * it as entries of `TERMS` once heartbeats reach the edge.
 */
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
}

type Estimate = (region: Region, app: Place) => PlanTerm;

const TERMS: readonly Estimate[] = [(region, app) => ({ term: 'network', ...networkPrior(app, region) })];

/**
 * Orders regions for an app at `app`; regions that come out equal keep the order they are configured in.
 *
 * @param allowed names from the rule; undefined allows all.
 */
export function planRegions(
  regions: readonly Region[],
  app: Place,
  allowed: readonly string[] | undefined,
): readonly PlannedRegion[] {
  return regions
    .filter(({ name }) => allowed === undefined || allowed.includes(name))
    .map((region) => {
      const terms = TERMS.map((estimate) => estimate(region, app));
      return { region, terms, totalMs: terms.reduce((sum, { ms }) => sum + ms, 0) };
    })
    .sort((a, b) => a.totalMs - b.totalMs);
}
