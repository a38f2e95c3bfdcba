/**
 * A simulated day of a fleet: 30 regions, 500 experts asked for by Zipf's law, demand that follows the sun. The Worker's own plan code beside round robin, the nearest
 * region, and residency alone.
 * Run: `npx tsx bench/src/fleet.ts [--seed N] [--rate REQUESTS_PER_SECOND] [--charts DIR]`.
 *
 * Regions are stand-ins (fleet/container.ts) of a 7B model on one GPU: experts of 0.85 GB, 16 slots, 24 in memory, a store of 2.5 GB/s, 8,000 prompt tokens a second;
 * a request that would wait for half a minute is refused, and counts as that.
 * Heartbeats come every two seconds. Round trips are geography's, times a factor of each pair of places that the edge learns by measuring, and believes as long as the
 * Worker does. A day passes in an hour.
 */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { HEARTBEAT_INTERVAL_MS } from '@signpost/contracts';
import { chance } from '@signpost/kernels/testing';
import { seriesChart } from '@signpost/packer';
import { networkPrior } from '../../edge/src/plan/network.ts';
import { Container, LONGEST_WAIT_MS } from './fleet/container.ts';
import { type Answer, catalogueOf, type Policy, policies, type View } from './fleet/policies.ts';
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
/** The first of the day find slots empty, whoever chooses. */
const WARM_UP_MS = 5 * 60_000;
const HOURS = 24;
const CHARTED_MS = 5_000;

interface Result {
  readonly name: string;
  /** Milliseconds to the first token, by hour of the day at Greenwich. */
  readonly firstTokens: readonly number[][];
  /** Of all regions, in the same hours. */
  readonly pagedInBytes: readonly number[];
  readonly requests: number;
  readonly refused: number;
}

/** What stands between a city and a region beside the distance: detours, and worse. */
const detours = (() => {
  const random = chance(SEED + 1);
  return cities.map(() => regions.map(() => 0.8 + 0.9 * random() ** 2));
})();

const catalogue = catalogueOf(DEMAND.experts, SIZE.expertBytes);

function simulate(policy: Policy): Result {
  const containers = regions.map((region) => new Container(region.name, SIZE));
  const firstTokens = Array.from({ length: HOURS }, (): number[] => []);
  const pagedInBytes = firstTokens.map(() => 0);
  const underWay = new UnderWay(policy);
  let beats: View['beats'] = [];
  let heardAt = Number.NEGATIVE_INFINITY;
  let [requests, refused] = [0, 0];
  for (const arrival of arrivals(DEMAND, chance(SEED))) {
    const { at, city, expert, promptTokens } = arrival;
    if (at - heardAt >= HEARTBEAT_INTERVAL_MS) {
      heardAt = at;
      beats = containers.map((container) => ({ beat: container.heartbeat(at), heardAt: at }));
    }
    underWay.tell(at);
    const chosen = policy.choose(arrival, { beats, catalogue, now: at });
    const [region, container] = [regions[chosen], containers[chosen]];
    if (region === undefined || container === undefined) throw new Error(`${policy.name} chose region ${chosen}`);
    const ms = networkPrior(cities[city] ?? {}, region).ms * (detours[city]?.[chosen] ?? 1);
    const before = container.pagedInBytes;
    const firstTokenAt = container.serve(expert, promptTokens, at + ms / 2);
    const answerAt = (firstTokenAt ?? at + ms / 2) + ms / 2;
    underWay.add({ at: answerAt, arrival, region: chosen, networkMs: firstTokenAt === undefined ? undefined : ms });
    if (at < WARM_UP_MS) continue;
    const hour = Math.floor((HOURS * at) / DEMAND.dayMs);
    requests++;
    if (firstTokenAt === undefined) refused++;
    firstTokens[hour]?.push(firstTokenAt === undefined ? LONGEST_WAIT_MS : answerAt - at);
    pagedInBytes[hour] = (pagedInBytes[hour] ?? 0) + container.pagedInBytes - before;
  }
  return { name: policy.name, firstTokens, pagedInBytes, requests, refused };
}

/** Answers that aren't there yet, of which a policy is told in the order in which they will be. */
class UnderWay {
  readonly #policy: Policy;
  /** The first to be there last. */
  readonly #answers: Answer[] = [];

  constructor(policy: Policy) {
    this.#policy = policy;
  }

  add(answer: Answer): void {
    if (this.#policy.learn === undefined) return;
    const later = this.#answers.findLastIndex(({ at }) => at >= answer.at);
    this.#answers.splice(later + 1, 0, answer);
  }

  /** Tells of those that are there by now. */
  tell(now: number): void {
    for (let next = this.#answers.at(-1); next !== undefined && next.at <= now; next = this.#answers.at(-1)) {
      this.#policy.learn?.(next);
      this.#answers.pop();
    }
  }
}

const p95 = ({ firstTokens }: Result) => percentile(firstTokens.flat(), 0.95);
const bytesPerRequest = ({ pagedInBytes, requests }: Result) => pagedInBytes.reduce((a, b) => a + b, 0) / requests;

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
  const megabytes = `${(bytesPerRequest(result) / 1e6).toFixed(1)} MB`.padStart(22);
  const refused = `${((100 * result.refused) / result.requests).toFixed(2)} %`.padStart(10);
  console.log(`${result.name.padEnd(16)}${ms(0.5)}${ms(0.95)}${ms(0.99)}${refused}${megabytes}`);
}
const [own, ...others] = results;
for (const other of others) {
  const times = (of: (result: Result) => number) =>
    `${(own === undefined ? Number.NaN : of(own) / of(other)).toFixed(2)} ×`;
  console.log(`Signpost beside ${other.name}: p95 ${times(p95)}, page-in traffic ${times(bytesPerRequest)}`);
}
if (flags.charts !== undefined) {
  const hourMs = DEMAND.dayMs / HOURS;
  await chart(flags.charts, 'fleet-first-token.svg', {
    title: 'Time to first token over a day (p95)',
    valueTitle: 'p95 (ms)',
    // Beyond that it is a queue that grows until the evening.
    value: ({ firstTokens }, hour) => Math.min(percentile(firstTokens[hour] ?? [], 0.95), CHARTED_MS),
  });
  await chart(flags.charts, 'fleet-page-in.svg', {
    title: 'Page-in traffic over a day',
    valueTitle: 'read from stores (GB/s, all regions)',
    value: ({ pagedInBytes }, hour) => (pagedInBytes[hour] ?? 0) / hourMs / 1e6,
  });
}

interface HourlyChart {
  readonly title: string;
  readonly valueTitle: string;
  readonly value: (result: Result, hour: number) => number;
}

async function chart(dir: string, file: string, { title, valueTitle, value }: HourlyChart): Promise<void> {
  const points = results.flatMap((result) =>
    result.firstTokens.map((values, hour) => ({
      category: String(hour),
      series: result.name,
      // Those of warming up have none.
      value: values.length === 0 ? Number.NaN : value(result, hour),
    })),
  );
  const titles = { title, categoryTitle: 'hour at Greenwich', valueTitle, seriesTitle: 'region chosen by' };
  await writeFile(join(dir, file), await seriesChart({ mark: 'line', ...titles, points }));
}
