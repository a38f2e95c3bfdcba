/**
 * What the edge answers the console, as its own code has it.
 */
import type { DecisionRecord } from '@signpost/contracts';
import type { FleetView } from '../../../src/admin/fleet-routes.ts';
import type { Residency } from '../../../src/fleet/residency.ts';
import type { explain } from '../../../src/route/explain.ts';

export type { ConfigChange, ConfigView } from '../../../src/admin/config-routes.ts';
export type { DecisionRecord, FleetView, Residency };

export type Explanation = ReturnType<typeof explain>;
export type PlanEntry = Explanation['plan'][number];
export type PlanTerm = PlanEntry['terms'][number];

export type RegionView = FleetView['regions'][number];
export type ReplicaView = RegionView['replicas'][number];
export type CatalogueView = NonNullable<FleetView['catalogue']>;
export type ExpertView = CatalogueView['experts'][number];
export type VersionView = ExpertView['versions'][number];

export interface ListOf<T> {
  readonly object: 'list';
  readonly data: readonly T[];
}

export interface RuleHits {
  readonly rule: string;
  readonly requests: number;
}

/** What `POST /admin/route` takes beside the request. */
export interface Trial {
  readonly request: object;
  readonly tenant?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly place?: { readonly continent?: string; readonly country?: string; readonly colo?: string };
  readonly rules?: string;
}
