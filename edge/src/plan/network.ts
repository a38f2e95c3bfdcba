/**
 * Network time from the edge to a region, guessed from where both are. A prior: what is measured later takes its place.
 */
import type { Continent } from './regions.ts';

/** A place known exactly, by continent, or not at all. */
export interface Place {
  readonly latitude?: number | undefined;
  readonly longitude?: number | undefined;
  readonly continent?: string | undefined;
}

/** Light in fibre covers 200 km in a millisecond; cables are about 1.6 times as long as the great circle. There and back. */
const MS_PER_KM = (2 * 1.6) / 200;
/** Handshakes and forwarding, however near the region is. */
const NEAR_MS = 3;
/** Where either end is unknown: about half way round the world. */
const UNKNOWN_MS = 150;
/** Typical way between two places of one continent. */
const SAME_CONTINENT_KM = 2_000;
const EARTH_RADIUS_KM = 6_371;

/** Roughly where each continent's people are: [latitude, longitude] in degrees. */
const CENTRES: Readonly<Record<Continent, readonly [number, number]>> = {
  AF: [5, 20],
  AN: [-78, 0],
  AS: [25, 100],
  EU: [50, 10],
  NA: [39, -95],
  OC: [-30, 148],
  SA: [-17, -56],
};

/** Round trip between an app's place and a region's, in milliseconds, and what the figure rests on. */
export function networkPrior(from: Place, to: Place): { ms: number; why: string } {
  const near = coordinates(from);
  const far = coordinates(to);
  if (near === undefined || far === undefined)
    return {
      ms: UNKNOWN_MS,
      why: near === undefined ? 'the app’s place is not known' : 'the region states no place',
    };
  const byContinent = near.precision === 'continent' || far.precision === 'continent';
  const km =
    byContinent && from.continent !== undefined && from.continent === to.continent
      ? SAME_CONTINENT_KM
      : greatCircleKm(near.point, far.point);
  const rounded = Math.round(km);
  return {
    ms: NEAR_MS + km * MS_PER_KM,
    why: `about ${rounded} km${byContinent ? `, by continent` : ''}`,
  };
}

type Point = readonly [latitude: number, longitude: number];

function coordinates(place: Place): { point: Point; precision: 'exact' | 'continent' } | undefined {
  const { latitude, longitude, continent } = place;
  if (latitude !== undefined && longitude !== undefined) return { point: [latitude, longitude], precision: 'exact' };
  const centre = continent === undefined ? undefined : (CENTRES as Record<string, Point>)[continent];
  return centre === undefined ? undefined : { point: centre, precision: 'continent' };
}

/** Haversine formula (R. W. Sinnott, "Virtues of the Haversine", 1984). */
function greatCircleKm([lat1, lon1]: Point, [lat2, lon2]: Point): number {
  const radians = Math.PI / 180;
  const h =
    Math.sin(((lat2 - lat1) * radians) / 2) ** 2 +
    Math.cos(lat1 * radians) * Math.cos(lat2 * radians) * Math.sin(((lon2 - lon1) * radians) / 2) ** 2;
  return 2 * EARTH_RADIUS_KM * Math.asin(Math.min(1, Math.sqrt(h)));
}
