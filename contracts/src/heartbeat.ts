/**
 * What a region tells the edge about itself: load and residency.
 */
import { z } from 'zod';
import { digestSchema } from './digest.ts';

const count = z.number().int().nonnegative();
const rate = z.number().nonnegative().nullable();

/** Where the edge takes heartbeats, and as whom it is addressed in their tokens. */
export const HEARTBEAT_PATH = '/internal/heartbeat';
export const HEARTBEAT_AUDIENCE = 'signpost-edge';
/** How often a region tells, beside at every change. */
export const HEARTBEAT_INTERVAL_MS = 2_000;
/** A container that the edge has not heard of for so long is taken to be gone. */
export const HEARTBEAT_SILENCE_MS = 10_000;

export const heartbeatSchema = z.strictObject({
  region: z.string().min(1),
  /** Which of the region's containers: made anew at each start. */
  replica: z.uuid(),
  /** Milliseconds since the epoch, by the region's clock. */
  sentAt: z.number().int().positive(),
  base: digestSchema,
  running: count,
  waiting: count,
  /** Prompt tokens that wait for their first step. */
  queuedTokens: count,
  /** Prompt tokens computed in a second of late, whatever ran beside them; null before the first. */
  prefillTokensPerSecond: rate,
  kvBlocksFree: count,
  kvBlocks: count,
  slots: count,
  slotsFree: count,
  experts: z.strictObject({
    /** In device slots. */
    device: z.array(digestSchema),
    /** In host memory, whole. */
    host: z.array(digestSchema),
    /** On their way into slots. */
    loading: z.array(digestSchema),
  }),
  /** Mean rates of recent page-ins into slots, by where the file was; null before the first. */
  pageInBytesPerSecond: z.strictObject({ host: rate, store: rate }),
  draining: z.boolean(),
});
export type Heartbeat = z.output<typeof heartbeatSchema>;
