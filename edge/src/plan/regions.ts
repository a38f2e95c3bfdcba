/**
 * Regions: where a request can be served, by what kind of backend.
 */
import { z } from 'zod';

/** Cloudflare's continent codes, as `request.cf.continent` has them. */
const CONTINENTS = ['AF', 'AN', 'AS', 'EU', 'NA', 'OC', 'SA'] as const;
export type Continent = (typeof CONTINENTS)[number];

/** Secrets and variables of the Worker's own: a region that named one of them would be sent what is none of its business. */
const OWN_NAMES = /^(?:REGION_SECRET|REGIONS|API_KEY|ADMIN|CATALOGUE_KEY|METRICS_KEY)/;
const secretName = z
  .string()
  .regex(/^[A-Z][A-Z0-9_]{0,63}$/, 'expected the name of a secret, such as "VLLM_KEY"')
  .refine((name) => !OWN_NAMES.test(name), { error: "is a secret of Signpost's own; set another one for this" });

const httpUrl = z
  .url({ protocol: /^https?$/, error: 'expected an http(s) URL' })
  .transform((url) => url.replace(/\/+$/, ''));

const commonShape = {
  /** In rules, headers, and as the audience of signed requests. */
  name: z.string().regex(/^[a-zA-Z0-9._-]{1,64}$/, 'expected 1 to 64 letters, digits, ".", "_", "-"'),
  /** Where it stands: exactly, or at least on which continent. Neither: taken as far from everyone. */
  latitude: z.number().min(-90).max(90).optional(),
  longitude: z.number().min(-180).max(180).optional(),
  continent: z.enum(CONTINENTS).optional(),
  /** `overflow`: asked after all others, */
  role: z.enum(['regular', 'overflow']).optional(),
  /** unless the best of them would take longer than this. */
  overflowAfterMs: z.number().int().positive().optional(),
};

/** The hook that has a region that runs nothing start a container. */
const wakeSchema = z.strictObject({
  /** Gets a POST with `{"region": "<name>"}`. */
  url: httpUrl,
  /** Sent as `Authorization: Bearer <secret>`. */
  secret: secretName.optional(),
  /** From the hook until it answers, as it usually is: for the plan's explanation, and for when apps are told to come again. */
  usualMs: z.number().int().positive().default(60_000),
});

/** A container of ours. */
const httpSchema = z.strictObject({
  ...commonShape,
  kind: z.literal('http').optional(),
  /** Where its API is; a path in it is kept as prefix. */
  url: httpUrl,
  /** Of one that may run nothing, and sends heartbeats when it runs. */
  wake: wakeSchema.optional(),
});

/** Somebody else's server that speaks OpenAI's API. */
const openaiSchema = z.strictObject({
  ...commonShape,
  kind: z.literal('openai'),
  /** With or without the `/v1` that clients are configured with. */
  url: httpUrl.transform((url) => url.replace(/\/v1$/, '')),
  /** Signpost's model names, and what they are called there. A model without an entry isn't asked for there. */
  models: z
    .record(z.string().min(1).max(512), z.string().min(1).max(512))
    .refine((models) => Object.keys(models).length > 0, { error: 'needs at least one model' }),
  keySecret: secretName.optional(),
  /** Where its metrics are, if not at `/metrics`. */
  metricsUrl: httpUrl.optional(),
  /** Of one that may run nothing: only asking it tells whether it does. */
  wake: wakeSchema.optional(),
});

/** A container of ours in AWS Lambda. */
const lambdaSchema = z.strictObject({
  ...commonShape,
  kind: z.literal('lambda'),
  /** Name or ARN. */
  function: z.string().min(1).max(256),
  /** Version or alias. */
  qualifier: z.string().min(1).max(128).optional(),
  awsRegion: z.string().regex(/^[a-z0-9-]{4,32}$/, 'expected an AWS region, such as "eu-central-1"'),
  accessKeyIdSecret: secretName,
  secretAccessKeySecret: secretName,
  sessionTokenSecret: secretName.optional(),
  /** Another endpoint than AWS's own: of a VPC, or for tests. */
  endpoint: httpUrl.optional(),
  /** What a start takes: the plan counts it where this isolate hasn't been answered of late. */
  coldStartMs: z.number().int().nonnegative().default(10_000),
});

const regionSchema = z
  .discriminatedUnion('kind', [httpSchema, openaiSchema, lambdaSchema], {
    error: 'expected the kind "http" (or none), "openai" or "lambda"',
  })
  .refine((region) => (region.latitude === undefined) === (region.longitude === undefined), {
    error: 'latitude and longitude go together',
  })
  .refine((region) => region.overflowAfterMs === undefined || region.role === 'overflow', {
    error: 'overflowAfterMs says nothing of a region whose role isn’t "overflow"',
  });
export type Region = z.output<typeof regionSchema>;
type WakeHook = z.output<typeof wakeSchema>;
export type HttpRegion = z.output<typeof httpSchema>;
export type OpenaiRegion = z.output<typeof openaiSchema>;
export type LambdaRegion = z.output<typeof lambdaSchema>;

/** Whether the region runs our code: it tells of token ids and versions, and goes on with an answer that was begun elsewhere. */
export function isOurs({ kind }: Region): boolean {
  return kind !== 'openai';
}

export function wakeHook(region: Region): WakeHook | undefined {
  return region.kind === 'lambda' ? undefined : region.wake;
}

/** Secrets that a region names. */
export function secretsOf(region: Region): readonly string[] {
  switch (region.kind) {
    case undefined:
    case 'http':
      return named(region.wake?.secret);
    case 'openai':
      return named(region.keySecret, region.wake?.secret);
    case 'lambda':
      return named(region.accessKeyIdSecret, region.secretAccessKeySecret, region.sessionTokenSecret);
    default:
      return region satisfies never;
  }
}

function named(...names: readonly (string | undefined)[]): readonly string[] {
  return names.filter((name) => name !== undefined);
}

export const regionsSchema = z
  .array(regionSchema)
  .min(1, 'needs at least one region')
  .refine((regions) => new Set(regions.map(({ name }) => name)).size === regions.length, {
    error: 'two regions have the same name',
  });
