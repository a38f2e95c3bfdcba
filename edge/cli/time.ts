/**
 * Times in options: a point in time, or how far it is from now.
 */
import { InvalidArgumentError } from 'commander';

const UNITS_MS = { m: 60_000, h: 3_600_000, d: 86_400_000 };

/** As ISO time. */
export function timeAhead(text: string): string {
  return timeFrom(text, 1);
}

/** As ISO time. */
export function timeAgo(text: string): string {
  return timeFrom(text, -1);
}

function timeFrom(text: string, direction: 1 | -1): string {
  const { n, unit } = /^(?<n>\d{1,5})(?<unit>[mhd])$/.exec(text)?.groups ?? {};
  const at =
    n === undefined ? Date.parse(text) : Date.now() + direction * Number(n) * UNITS_MS[unit as keyof typeof UNITS_MS];
  if (Number.isNaN(at))
    throw new InvalidArgumentError('expected 90d, 12h, 30m, or a time such as 2027-01-31T00:00:00Z');
  return new Date(at).toISOString();
}
