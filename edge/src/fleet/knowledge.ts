/**
 * What this isolate knows of the regions and their experts, and of what it has sent where.
 */
import type { Catalogue } from '@signpost/contracts';
import type { ForeignLoads } from '../backends/foreign-load.ts';
import type { Waker } from '../backends/waker.ts';
import type { Cached } from '../cached.ts';
import type { FleetHealth } from '../forward/region-health.ts';
import type { PlanFacts } from '../plan/plan.ts';
import { PrefixMemory } from '../plan/prefixes.ts';
import { counts, type HeardBeat } from './roll.ts';

export interface KnowledgeSources {
  /** What regions have said of themselves. */
  readonly fleet: Cached<readonly HeardBeat[]>;
  /** Versions and sizes of experts; undefined where R2 has no catalogue. */
  readonly catalogue: Cached<Catalogue | undefined>;
  readonly health: FleetHealth;
  /** How busy strangers' servers are. */
  readonly foreignLoads: ForeignLoads;
  readonly waker: Waker;
}

export interface Known extends Omit<PlanFacts, 'app' | 'load'> {
  /** Of prompts: which region has their beginnings cached. */
  readonly prefixes: PrefixMemory;
}

type WaitUntil = (promise: Promise<unknown>) => void;

/** A copy that says who has fallen silent is newer: one that can't be renewed grows old, and all that it tells of with it. */
const LATELY_MS = 3_000;

export class Knowledge {
  readonly #sources: KnowledgeSources;
  readonly #prefixes = new PrefixMemory(Date.now);

  constructor(sources: KnowledgeSources) {
    this.#sources = sources;
  }

  /** What regions have said lately: a copy that nobody asked for in a while has some that counts no more. Undefined where there is none so new. */
  beats(waitUntil: WaitUntil): readonly HeardBeat[] | undefined {
    const now = Date.now();
    return this.#sources.fleet.current(waitUntil)?.filter((heard) => counts(heard, now));
  }

  /**
   * For a request that is sent to a region: tells, each time it is called, whether that has fallen silent since. Undefined where nothing is heard of it anyway, as of
   * servers that aren't ours. To be called every two seconds or so, which keeps the copy new.
   */
  vigil(region: string, waitUntil: WaitUntil): (() => boolean) | undefined {
    const isHeard = ({ beat }: HeardBeat) => beat.region === region;
    if (this.beats(waitUntil)?.some(isHeard) !== true) return undefined;
    return () => {
      const now = Date.now();
      const beats = this.#sources.fleet.lately(LATELY_MS, waitUntil);
      return beats !== undefined && !beats.some((heard) => isHeard(heard) && counts(heard, now));
    };
  }

  /** As it stands; where the catalogue isn't known yet, or only as it was long ago, the request that finds it so waits a moment for it. */
  async recent(waitUntil: WaitUntil): Promise<Known> {
    const { catalogue, health, foreignLoads, waker } = this.#sources;
    const beats = this.beats(waitUntil);
    return {
      beats: beats ?? [],
      isAsleep: (region) =>
        waker.isAsleep(region, {
          beats,
          sinceFailedMs: health.of(region.name).sinceFailedMs(Date.now()),
          foreignLoad: (stranger) => foreignLoads.of(stranger, waitUntil),
        }),
      catalogue: await catalogue.recent(waitUntil),
      networkMs: (region, usualMs) => health.of(region).networkMs(Date.now(), usualMs),
      sentSince: (region, heard, containers) => health.of(region).sent.waiting(heard, containers, Date.now()),
      foreignLoad: (region) => foreignLoads.of(region, waitUntil),
      sinceAnsweredMs: (region) => {
        const { answeredAt } = health.of(region);
        return answeredAt === undefined ? undefined : Date.now() - answeredAt;
      },
      prefixes: this.#prefixes,
    };
  }
}
