/**
 * What a region tells an operator about its experts: `GET /v1/experts`, and the admin API's requests.
 */
import { z } from 'zod';
import { type Digest, digestSchema } from './digest.ts';

/** Of a request from the edge to a region: names of experts, by commas, that are likely to be asked for soon. */
export const PREFETCH_HEADER = 'x-signpost-prefetch';

/** Where an expert's delta is, nearest first. */
export const EXPERT_TIERS = ['device', 'host', 'disk', 'store'] as const;
export type ExpertTier = (typeof EXPERT_TIERS)[number];

/** One version of an expert, in one region. */
export interface ExpertCard {
  readonly object: 'expert';
  /** The first of `models`, or the digest where no channel points at it. */
  readonly id: string;
  /** Names it is asked for by: `NAME`, `NAME@CHANNEL`. */
  readonly models: readonly string[];
  readonly digest: Digest;
  /** Of the delta file. */
  readonly bytes: number;
  /** The nearest that has it. */
  readonly tier: ExpertTier;
  readonly tiers: readonly ExpertTier[];
  /** Its device slot; null where it is in none. */
  readonly slot: number | null;
  /** Whether its slot is still being filled. */
  readonly loading: boolean;
  /** Requests that use it now, loads included. */
  readonly users: number;
  /** By which names; empty where it isn't. */
  readonly pinned_by: readonly string[];
  /** Since the region's start. */
  readonly requests: number;
  /** Those that found it in its slot. */
  readonly hits: number;
  /** ISO 8601; null where nobody has asked for it since the start. */
  readonly last_use: string | null;
}

/** `GET /v1/experts`, `GET /admin/experts`. */
export interface ExpertList {
  readonly object: 'list';
  /** The catalogue's that names are looked up in: replicas that say the same stand for the same versions. */
  readonly catalogue_revision: number;
  readonly data: readonly ExpertCard[];
}

/** `POST /admin/experts/{load,pin,unpin,evict}`. */
export const expertActionSchema = z.strictObject({
  /** `NAME`, `NAME@CHANNEL`, `NAME@DIGEST`; for `evict` a whole digest, too. */
  model: z.string().min(1).max(256),
});

export const expertLoadSchema = expertActionSchema.extend({
  /** How long to wait for it. */
  timeout_ms: z.number().int().positive().max(3_600_000).default(60_000),
});

/** A digest that stands for itself; undefined for a name. */
export function asDigest(model: string): Digest | undefined {
  return digestSchema.safeParse(model).data;
}
