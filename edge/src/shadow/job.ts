/**
 * A request that has been answered, on its way through the queue to be asked of another model, too.
 */
import { z } from 'zod';

/** One text, and what it took. */
const saidSchema = z.object({
  /** As its region named it. */
  model: z.string(),
  /** `x-signpost-digest`; undefined for the base, and for a stranger's. */
  digests: z.string().optional(),
  region: z.string(),
  text: z.string(),
  finishReason: z.string(),
  /** Of the answer; undefined where nobody said. */
  tokens: z.number().optional(),
  /** From the request to its last byte. */
  ms: z.number(),
});
export type Said = z.output<typeof saidSchema>;

export const shadowJobSchema = z.object({
  /** Of the request. */
  id: z.string(),
  /** When it was answered, in milliseconds since the epoch. */
  at: z.number(),
  tenant: z.string().optional(),
  path: z.enum(['/v1/chat/completions', '/v1/completions']),
  rule: z.string(),
  /** What is asked now: a model name, and the regions that the rule allows. */
  shadow: z.object({ model: z.string(), regions: z.array(z.string()).optional() }),
  /** What the region was sent, but for its model. */
  fields: z.record(z.string(), z.unknown()),
  promptTokens: z.number(),
  answer: saidSchema,
});
export type ShadowJob = z.output<typeof shadowJobSchema>;

/** Cloudflare takes 128 kB a message, some of which are its own. */
export const MAX_JOB_BYTES = 120_000;
