/**
 * Where a simulated fleet stands, who asks it, and when.
 */
import type { Region } from '../../../edge/src/plan/regions.ts';
import { zipf } from '../arrivals.ts';

/** Data centres of a large cloud: name, latitude, longitude. */
const REGIONS = [
  ['virginia', 38.9, -77.4],
  ['ohio', 40, -83],
  ['california', 37.4, -121.9],
  ['oregon', 45.8, -119.7],
  ['montreal', 45.5, -73.6],
  ['calgary', 51, -114.1],
  ['queretaro', 20.6, -100.4],
  ['sao-paulo', -23.5, -46.6],
  ['ireland', 53.3, -6.3],
  ['london', 51.5, -0.1],
  ['paris', 48.9, 2.4],
  ['frankfurt', 50.1, 8.7],
  ['zurich', 47.4, 8.5],
  ['stockholm', 59.3, 18.1],
  ['milan', 45.5, 9.2],
  ['spain', 41.6, -0.9],
  ['cape-town', -33.9, 18.4],
  ['tel-aviv', 32.1, 34.8],
  ['bahrain', 26.1, 50.6],
  ['dubai', 25.2, 55.3],
  ['mumbai', 19.1, 72.9],
  ['hyderabad', 17.4, 78.5],
  ['singapore', 1.4, 103.8],
  ['jakarta', -6.2, 106.8],
  ['bangkok', 13.8, 100.5],
  ['hong-kong', 22.3, 114.2],
  ['tokyo', 35.7, 139.7],
  ['osaka', 34.7, 135.5],
  ['seoul', 37.6, 127],
  ['sydney', -33.9, 151.2],
] as const;

/** Where apps are: latitude, longitude, share of those who ask. The clock follows the sun. */
const CITIES = [
  [40.7, -74, 9],
  [34.1, -118.2, 6],
  [41.9, -87.6, 4],
  [29.8, -95.4, 3],
  [47.6, -122.3, 3],
  [43.7, -79.4, 2],
  [19.4, -99.1, 3],
  [-23.5, -46.6, 5],
  [-34.6, -58.4, 2],
  [4.7, -74.1, 2],
  [51.5, -0.1, 6],
  [48.9, 2.4, 4],
  [52.5, 13.4, 4],
  [40.4, -3.7, 2],
  [45.5, 9.2, 2],
  [52.2, 21, 2],
  [59.3, 18.1, 1],
  [41, 29, 2],
  [30, 31.2, 2],
  [6.5, 3.4, 2],
  [-26.2, 28, 1],
  [25.2, 55.3, 1],
  [28.6, 77.2, 6],
  [19.1, 72.9, 5],
  [13, 77.6, 4],
  [23.8, 90.4, 1],
  [1.4, 103.8, 2],
  [-6.2, 106.8, 3],
  [14.6, 121, 2],
  [22.3, 114.2, 2],
  [31.2, 121.5, 3],
  [37.6, 127, 3],
  [35.7, 139.7, 5],
  [34.7, 135.5, 2],
  [-33.9, 151.2, 2],
] as const;

export const regions: readonly Region[] = REGIONS.map(
  ([name, latitude, longitude]) => ({ name, url: `https://${name}.example`, latitude, longitude }) as Region,
);

export interface Arrival {
  /** Milliseconds since the simulation's begin. */
  readonly at: number;
  /** Index of the city. */
  readonly city: number;
  readonly expert: number;
  readonly promptTokens: number;
}

export const cities = CITIES.map(([latitude, longitude]) => ({ latitude, longitude }));

/** Fewest and most that ask at night and in the afternoon. */
const NIGHT = 0.15;

/** How busy a place is, from `NIGHT` to 1: most at three in the afternoon by the sun. @param day 0 to 1 at Greenwich, midnight to midnight */
function busyness(longitude: number, day: number): number {
  const local = day + longitude / 360;
  return NIGHT + (1 - NIGHT) * (0.5 + 0.5 * Math.cos(2 * Math.PI * (local - 15 / 24)));
}

export interface Demand {
  readonly experts: number;
  /** Mean over the day. */
  readonly requestsPerSecond: number;
  /** A day passes in so long. */
  readonly dayMs: number;
  /** Share of requests for one of the experts that are asked for in this part of the world; the rest is for any. */
  readonly localShare: number;
}

/** Requests of one day, in their order: a Poisson process whose rate follows the sun round the world, experts by Zipf's law. */
export function* arrivals(
  { experts, requestsPerSecond, dayMs, localShare }: Demand,
  random: () => number,
): Generator<Arrival> {
  const rank = zipf(experts, 1, random);
  // Every part of the world has a ranking of its own.
  const rankings = [0, 1, 2].map(() => shuffled(experts, random));
  const anywhere = shuffled(experts, random);
  const most = CITIES.reduce((sum, [, , share]) => sum + share, 0);
  const mean = meanBusyness();
  const peakPerMs = requestsPerSecond / 1_000 / mean;
  for (let at = 0; ; ) {
    at -= Math.log(1 - random()) / peakPerMs;
    if (at >= dayMs) return;
    let point = random() * most;
    const city = CITIES.findIndex(([, , share]) => {
      point -= share;
      return point < 0;
    });
    const longitude = CITIES[city]?.[1] ?? 0;
    // Thinning (Lewis and Shedler, 1979).
    if (random() >= busyness(longitude, at / dayMs)) continue;
    const part = longitude < -30 ? 0 : longitude < 60 ? 1 : 2;
    const ranking = random() < localShare ? rankings[part] : anywhere;
    // Log-normal, with a median of 300 and a mean of 500.
    const promptTokens = Math.ceil(300 * Math.exp(1.01 * normal(random)));
    yield { at, city, expert: ranking?.[rank()] ?? 0, promptTokens: Math.min(promptTokens, 8_000) };
  }
}

function meanBusyness(): number {
  return NIGHT + (1 - NIGHT) * 0.5;
}

/** Box and Muller, 1958. */
function normal(random: () => number): number {
  return Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
}

function shuffled(count: number, random: () => number): number[] {
  const order = Array.from({ length: count }, (_, i) => i);
  for (let i = count - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1));
    [order[i], order[j]] = [order[j] ?? 0, order[i] ?? 0];
  }
  return order;
}
