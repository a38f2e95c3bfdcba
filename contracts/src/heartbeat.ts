/**
 * What a region tells the edge about itself: load and residency.
 */
import { z } from 'zod';
import { digestSchema } from './digest.ts';

const count = z.number().int().nonnegative();

export const heartbeatSchema = z.strictObject({
  region: z.string().min(1),
  /** Milliseconds since the epoch, by the region's clock. */
  sentAt: z.number().int().positive(),
  base: digestSchema,
  running: count,
  waiting: count,
  kvBlocksFree: count,
  kvBlocks: count,
  slots: count,
  slotsFree: count,
  experts: z.strictObject({
    /** In device slots. */
    device: z.array(digestSchema),
    /** In host memory. */
    host: z.array(digestSchema),
    /** On their way in. */
    loading: z.array(digestSchema),
  }),
  /** Mean rate of recent page-ins; null before the first. */
  pageInBytesPerSecond: z.number().nonnegative().nullable(),
  draining: z.boolean(),
});
export type Heartbeat = z.output<typeof heartbeatSchema>;
