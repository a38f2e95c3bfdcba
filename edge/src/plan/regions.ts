/**
 * Regions: where a request can be served.
 */
import { z } from 'zod';

/** Cloudflare's continent codes, as `request.cf.continent` has them. */
const CONTINENTS = ['AF', 'AN', 'AS', 'EU', 'NA', 'OC', 'SA'] as const;
export type Continent = (typeof CONTINENTS)[number];

const regionSchema = z
  .strictObject({
    /** In rules, headers, and as the audience of signed requests. */
    name: z.string().regex(/^[a-zA-Z0-9._-]{1,64}$/, 'expected 1 to 64 letters, digits, ".", "_", "-"'),
    /** Where its API is; a path in it is kept as prefix. */
    url: z.url({ protocol: /^https?$/, error: 'expected an http(s) URL' }).transform((url) => url.replace(/\/+$/, '')),
    /** Where it stands: exactly, or at least on which continent. Neither: taken as far from everyone. */
    latitude: z.number().min(-90).max(90).optional(),
    longitude: z.number().min(-180).max(180).optional(),
    continent: z.enum(CONTINENTS).optional(),
  })
  .refine((region) => (region.latitude === undefined) === (region.longitude === undefined), {
    error: 'latitude and longitude go together',
  });
export type Region = z.output<typeof regionSchema>;

export const regionsSchema = z
  .array(regionSchema)
  .min(1, 'needs at least one region')
  .refine((regions) => new Set(regions.map(({ name }) => name)).size === regions.length, {
    error: 'two regions have the same name',
  });
