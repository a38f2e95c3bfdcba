/**
 * A window of the week: `{ days: [mon, fri], from: "08:00", to: "18:00", zone: Europe/Berlin }`.
 */
import { z } from 'zod';

const DAYS = ['sun', 'mon', 'tue', 'wed', 'thu', 'fri', 'sat'] as const;
const clock = z
  .string()
  .regex(/^(?:[01]\d|2[0-3]):[0-5]\d$|^24:00$/, 'expected a time of day, "08:00" to "24:00", in quotes');

export const timeWindowSchema = z
  .strictObject({
    /** All when left out. A window over midnight belongs to the day it begins on. */
    days: z.union([z.enum(DAYS).transform((day) => [day]), z.array(z.enum(DAYS)).min(1)]).optional(),
    /** From this minute on; midnight when left out. */
    from: clock.optional(),
    /** Up to this minute, which is no longer in it. Before `from`: over midnight. */
    to: clock.optional(),
    /** IANA name; UTC when left out. */
    zone: z
      .string()
      .refine((zone) => isZone(zone), 'is no time zone; write an IANA name such as Europe/Berlin')
      .optional(),
  })
  .refine(({ days, from, to }) => days !== undefined || from !== undefined || to !== undefined, {
    error: 'says neither days nor times',
  })
  .refine(({ from = '00:00', to = '24:00' }) => from !== to, { error: 'begins when it ends' });
export type TimeWindow = z.output<typeof timeWindowSchema>;

/** @param now milliseconds since the epoch. */
export function isWithin({ days, from = '00:00', to = '24:00', zone = 'UTC' }: TimeWindow, now: number): boolean {
  const { day, minute } = localTime(now, zone);
  const [start, end] = [minutes(from), minutes(to)];
  const began = (dayIndex: number) => days === undefined || days.includes(DAYS[(dayIndex + 7) % 7] ?? 'sun');
  if (start < end) return minute >= start && minute < end && began(day);
  return (minute >= start && began(day)) || (minute < end && began(day - 1));
}

function minutes(time: string): number {
  const [hours = '0', rest = '0'] = time.split(':');
  return 60 * Number(hours) + Number(rest);
}

const FORMATS = new Map<string, Intl.DateTimeFormat>();

function localTime(now: number, zone: string): { readonly day: number; readonly minute: number } {
  const format = FORMATS.get(zone) ?? formatOf(zone);
  FORMATS.set(zone, format);
  const parts = Object.fromEntries(format.formatToParts(now).map(({ type, value }) => [type, value]));
  const day = DAYS.indexOf(parts.weekday?.toLowerCase() as (typeof DAYS)[number]);
  return { day, minute: 60 * Number(parts.hour) + Number(parts.minute) };
}

function formatOf(zone: string): Intl.DateTimeFormat {
  return new Intl.DateTimeFormat('en-US', {
    timeZone: zone,
    weekday: 'short',
    hour: '2-digit',
    minute: '2-digit',
    hourCycle: 'h23',
  });
}

function isZone(zone: string): boolean {
  try {
    formatOf(zone);
    return true;
  } catch {
    return false;
  }
}
