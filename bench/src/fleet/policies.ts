/**
 * Ways to choose a region: the Worker's plan, and those it is held against.
 */
import type { Catalogue } from '@signpost/contracts';
import type { HeardBeat } from '../../../edge/src/fleet/roll.ts';
import { FleetHealth } from '../../../edge/src/forward/region-health.ts';
import { networkPrior } from '../../../edge/src/plan/network.ts';
import { planRegions } from '../../../edge/src/plan/plan.ts';
import { digestOf } from './container.ts';
import { type Arrival, cities, regions } from './world.ts';

/** What an edge knows when a request comes. */
export interface View {
  /** By region: at most two seconds old. */
  readonly beats: readonly HeardBeat[];
  readonly catalogue: Catalogue;
  /** Milliseconds. */
  readonly now: number;
}

/** What came of a request, as the edge that sent it sees it. */
export interface Answer {
  /** When it was there, in milliseconds. */
  readonly at: number;
  readonly arrival: Arrival;
  /** The region's index. */
  readonly region: number;
  /** Round trip; undefined of one that was refused. */
  readonly networkMs: number | undefined;
}

export interface Policy {
  readonly name: string;
  /** @returns the region's index */
  choose(arrival: Arrival, view: View): number;
  /** Told of each answer at its time, where that teaches it anything. */
  learn?(answer: Answer): void;
}

const nearest = cities.map((city) =>
  regions.map((region, i) => ({ i, ms: networkPrior(city, region).ms })).sort((a, b) => a.ms - b.ms),
);

export function policies(): readonly Policy[] {
  let turn = 0;
  // Each city's requests come to an isolate of its own.
  const isolates = cities.map(() => new FleetHealth());
  const healthOf = (city: number, region: string) => (isolates[city] ?? new FleetHealth()).of(region);
  return [
    {
      name: 'Signpost',
      choose({ city, expert, promptTokens }, { beats, catalogue, now }) {
        const [first] = planRegions(regions, undefined, {
          app: cities[city] ?? {},
          load: { model: `e${expert}`, promptTokens },
          beats,
          catalogue,
          networkMs: (region, usualMs) => healthOf(city, region).networkMs(now, usualMs),
          sentSince: (region, heard, containers) => healthOf(city, region).sent.waiting(heard, containers, now),
        });
        if (first === undefined) return 0;
        healthOf(city, first.region.name).sent.add(promptTokens, now);
        return regions.indexOf(first.region);
      },
      learn({ at, arrival, region, networkMs }) {
        const health = healthOf(arrival.city, regions[region]?.name ?? '');
        if (networkMs !== undefined) health.measured(networkMs, 0, at);
        health.sent.settle(arrival.promptTokens);
      },
    },
    { name: 'nearest region', choose: ({ city }) => nearest[city]?.[0]?.i ?? 0 },
    {
      // The nearest of those that have the expert, on the device or in memory, whatever else they have to do.
      name: 'residency only',
      choose({ city, expert }, { beats }) {
        const digest = digestOf(expert);
        const order = nearest[city] ?? [];
        const has = (i: number) => {
          const experts = beats[i]?.beat.experts;
          return (
            experts?.device.includes(digest) || experts?.loading.includes(digest) || experts?.host.includes(digest)
          );
        };
        return (order.find(({ i }) => has(i)) ?? order[0])?.i ?? 0;
      },
    },
    { name: 'round robin', choose: () => turn++ % regions.length },
  ];
}

/** Of experts that are all of one size. */
export function catalogueOf(experts: number, bytes: number): Catalogue {
  const version = (i: number) => ({
    digest: digestOf(i),
    base: digestOf(0),
    key: `experts/e${i}`,
    bytes,
    method: 'sign',
    published: '2026-01-01T00:00:00Z',
  });
  return {
    format: 1,
    revision: 1,
    bases: {},
    experts: Object.fromEntries(
      Array.from({ length: experts }, (_, i) => [
        `e${i}`,
        { versions: [version(i)], channels: { stable: [{ digest: digestOf(i), weight: 1 }] } },
      ]),
    ),
  };
}
