/**
 * Where an app is, as Cloudflare tells.
 */

export interface AppPlace {
  readonly latitude: number | undefined;
  readonly longitude: number | undefined;
  readonly continent: string | undefined;
  readonly country: string | undefined;
  /** IATA code of the data centre that took the request. */
  readonly colo: string | undefined;
}

/** Reads `request.cf`; what is missing or malformed there is undefined. */
export function readPlace(cf: unknown): AppPlace {
  const fields = typeof cf === 'object' && cf !== null ? (cf as Record<string, unknown>) : {};
  return {
    latitude: degrees(fields.latitude),
    longitude: degrees(fields.longitude),
    continent: text(fields.continent),
    country: text(fields.country),
    colo: text(fields.colo),
  };
}

function text(value: unknown): string | undefined {
  return typeof value === 'string' && value !== '' ? value : undefined;
}

function degrees(value: unknown): number | undefined {
  const number = typeof value === 'string' && value !== '' ? Number(value) : Number.NaN;
  return Number.isFinite(number) ? number : undefined;
}
