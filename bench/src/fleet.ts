/**
 * A simulated day of a fleet: 30 regions, 500 experts asked for by Zipf's law, demand that follows the sun. The Worker's own plan code beside round robin, the nearest
 * region, and residency alone.
 * Run: `npx tsx bench/src/fleet.ts [--seed N] [--rate REQUESTS_PER_SECOND] [--charts DIR]`.
 *
 * Regions are stand-ins (fleet/container.ts) of a 7B model on one GPU: experts of 0.85 GB, 16 slots, 24 in memory, a store of 2.5 GB/s, 8,000 prompt tokens a second;
 * a request that would wait for half a minute is refused, and counts as that.
 * Heartbeats come every two seconds. Round trips are geography's, times a factor of each pair of places that the edge learns by measuring. A day passes in an hour.
 */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { HEARTBEAT_INTERVAL_MS } from '@signpost/contracts';
import { chance } from '@signpost/kernels/testing';
import { seriesChart } from '@signpost/packer';
import { networkPrior } from '../../edge/src/plan/network.ts';
import { Container, LONGEST_WAIT_MS } from './fleet/container.ts';
import { catalogueOf, type Policy, policies, type View } from './fleet/policies.ts';
import { arrivals, cities, type Demand, regions } from './fleet/world.ts';
import { percentile } from './percentiles.ts';

const { values: flags } = parseArgs({
  options: {
    seed: { type: 'string', default: '1' },
    rate: { type: 'string', default: '100' },
    charts: { type: 'string' },
  },
});
const SEED = Number(flags.seed);
const DEMAND: Demand = {
  experts: 500,
  requestsPerSecond: Number(flags.rate),
  dayMs: 3_600_000,
  localShare: 0.5,
};
const SIZE = {
  slots: 16,
  hosts: 24,
  expertBytes: 0.85e9,
  prefillTokensPerSecond: 8_000,
  storeBytesPerSecond: 2.5e9,
  hostBytesPerSecond: 10e9,
};
/** As long as the Worker keeps a measurement (edge/src/forward/region-health.ts). */
const MEASURED_FOR_MS = 30_000;
/** The first of the day find slots empty, whoever chooses. */
const WARM_UP_MS = 5 * 60_000;
const HOURS = 24;
const CHARTED_MS = 5_000;

interface Result {
  readonly name: string;
  /** Milliseconds to the first token, by hour of the day at Greenwich. */
  readonly firstTokens: readonly number[][];
  readonly pagedInBytes: number;
  readonly requests: number;
  readonly refused: number;
}

/** What stands between a city and a region beside the distance: detours, and worse. */
const detours = (() => {
  const random = chance(SEED + 1);
  return cities.map(() => regions.map(() => 0.8 + 0.9 * random() ** 2));
})();

const catalogue = catalogueOf(DEMAND.experts, SIZE.expertBytes);

function simulate({ name, choose }: Policy): Result {
  const containers = regions.map((region) => new Container(region.name, SIZE));
  const measured = cities.map(() => new Map<string, { readonly at: number; readonly ms: number }>());
  const firstTokens = Array.from({ length: HOURS }, (): number[] => []);
  let beats: View['beats'] = [];
  let heardAt = Number.NEGATIVE_INFINITY;
  let [requests, refused, warmBytes] = [0, 0, 0];
  for (const arrival of arrivals(DEMAND, chance(SEED))) {
    const { at, city, expert, promptTokens } = arrival;
    if (at - heardAt >= HEARTBEAT_INTERVAL_MS) {
      heardAt = at;
      beats = containers.map((container) => ({ beat: container.heartbeat(at), heardAt: at }));
    }
    const networkMs = (region: string) => {
      const sample = measured[city]?.get(region);
      return sample !== undefined && at - sample.at < MEASURED_FOR_MS ? sample.ms : undefined;
    };
    const chosen = choose(arrival, { beats, catalogue, networkMs, now: at });
    const [region, container] = [regions[chosen], containers[chosen]];
    if (region === undefined || container === undefined) throw new Error(`${name} chose region ${chosen}`);
    const ms = networkPrior(cities[city] ?? {}, region).ms * (detours[city]?.[chosen] ?? 1);
    measured[city]?.set(region.name, { at, ms });
    const firstTokenAt = container.serve(expert, promptTokens, at + ms / 2);
    if (at < WARM_UP_MS) {
      warmBytes = pagedIn(containers);
      continue;
    }
    requests++;
    if (firstTokenAt === undefined) refused++;
    firstTokens[Math.floor((HOURS * at) / DEMAND.dayMs)]?.push(
      firstTokenAt === undefined ? LONGEST_WAIT_MS : firstTokenAt + ms / 2 - at,
    );
  }
  return { name, firstTokens, requests, refused, pagedInBytes: pagedIn(containers) - warmBytes };
}

const pagedIn = (containers: readonly Container[]) =>
  containers.reduce((sum, { pagedInBytes }) => sum + pagedInBytes, 0);

console.log(
  `${regions.length} regions, ${DEMAND.experts} experts, ${DEMAND.requestsPerSecond} requests/s, seed ${SEED}\n` +
    `${''.padEnd(16)}${'p50'.padStart(10)}${'p95'.padStart(10)}${'p99'.padStart(10)}${'refused'.padStart(10)}${'paged in a request'.padStart(22)}`,
);
const results: Result[] = [];
for (const policy of policies()) {
  const result = simulate(policy);
  results.push(result);
  const all = result.firstTokens.flat();
  const ms = (share: number) => `${percentile(all, share).toFixed(0)} ms`.padStart(10);
  const megabytes = `${(result.pagedInBytes / result.requests / 1e6).toFixed(1)} MB`.padStart(22);
  const refused = `${((100 * result.refused) / result.requests).toFixed(2)} %`.padStart(10);
  console.log(`${result.name.padEnd(16)}${ms(0.5)}${ms(0.95)}${ms(0.99)}${refused}${megabytes}`);
}
const [own, ...others] = results;
for (const other of others) {
  const p95 = (result: Result | undefined) => percentile(result?.firstTokens.flat() ?? [], 0.95);
  const bytes = (result: Result | undefined) => (result?.pagedInBytes ?? 0) / (result?.requests ?? 1);
  console.log(
    `Signpost beside ${other.name}: p95 ${(p95(own) / p95(other)).toFixed(2)} ×, page-in traffic ${(bytes(own) / bytes(other)).toFixed(2)} ×`,
  );
}
if (flags.charts !== undefined) {
  const svg = await seriesChart({
    title: 'Time to first token over a day (p95)',
    mark: 'line',
    categoryTitle: 'hour at Greenwich',
    valueTitle: 'p95 (ms)',
    seriesTitle: 'region chosen by',
    points: results.flatMap(({ name, firstTokens }) =>
      firstTokens.map((values, hour) => ({
        category: String(hour),
        series: name,
        // Beyond that it is a queue that grows until the evening.
        value: Math.min(percentile(values, 0.95), CHARTED_MS),
      })),
    ),
  });
  await writeFile(join(flags.charts, 'fleet-first-token.svg'), svg);
}
