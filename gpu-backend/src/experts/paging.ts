/**
 * The tiers put together: slots over the host cache over the disk and the store, with what is brought in ahead, and what an operator may do by hand.
 */
import { ApiError, type Digest, type ExpertVersion } from '@signpost/contracts';
import { Demand, type Usage } from './demand.ts';
import type { DiskCacheState } from './disk-cache.ts';
import type { HostCacheState } from './host-cache.ts';
import { type IntegrityFailures, type PageInCounts, type PageInSource, Pager, type PagerOptions } from './page-in.ts';
import { Prefetcher } from './prefetch.ts';
import { Residency, type ResidencyState } from './residency.ts';

/** What keeps delta files, nearest first. */
export type Tier = 'device' | 'host' | 'disk';

export interface PagingState {
  readonly residency: ResidencyState;
  readonly host: HostCacheState;
  /** Undefined where there is no disk cache. */
  readonly disk: DiskCacheState | undefined;
  readonly pageIns: Readonly<Record<PageInSource, PageInCounts>>;
  readonly integrityFailures: IntegrityFailures;
  readonly isStoreDown: boolean;
  /** Mean rates of recent loads, in bytes/s; null before the first. */
  readonly bytesPerSecond: Readonly<Record<PageInSource, number | null>>;
}

export interface PagingOptions extends Omit<PagerOptions, 'demand' | 'onSilence'> {
  readonly slots: number;
  /** Told when an expert has come to a slot or into memory, gone, or is on its way into a slot. */
  readonly onChange: () => void;
}

export class Paging {
  readonly residency: Residency;
  readonly prefetcher: Prefetcher;
  readonly #pager: Pager;
  readonly #options: PagingOptions;
  readonly #demand = new Demand();

  constructor(options: PagingOptions) {
    const { slots, onChange, onProblem } = options;
    const demand = this.#demand;
    this.#options = options;
    const pager = new Pager({ ...options, demand, onSilence: () => this.residency.reconsider() });
    this.#pager = pager;
    this.residency = new Residency({
      slots,
      demand,
      onChange,
      load: (version, slot, signal) => pager.load(version, slot, signal),
      refusal: (version) => pager.refusal(version),
      isHopeless: (digest) => pager.isHopeless(digest),
    });
    this.prefetcher = new Prefetcher({
      residency: this.residency,
      warm: (version, signal) => pager.cache.warm(version, signal),
      onProblem,
    });
  }

  get state(): PagingState {
    const { cache, counts: pageIns, integrityFailures, isStoreDown, bytesPerSecond } = this.#pager;
    const disk = this.#options.disk?.state;
    const { state: residency } = this.residency;
    return { residency, host: cache.state, disk, pageIns, integrityFailures, isStoreDown, bytesPerSecond };
  }

  usage(digest: Digest): Usage | undefined {
    return this.#demand.usage(digest);
  }

  /** Brings an expert into a slot, as a request for it would. @throws ApiError as that would, (504) when it isn't in after `timeoutMs`. */
  async load(version: ExpertVersion, timeoutMs: number): Promise<void> {
    const signal = AbortSignal.timeout(timeoutMs);
    try {
      await this.residency.bringIn(version, signal);
    } catch (cause) {
      if (!signal.aborted) throw cause;
      throw new ApiError(
        'server_error',
        'deadline_exceeded',
        `expert ${version.digest} wasn't in after ${timeoutMs} ms`,
        {
          status: 504,
          cause,
        },
      );
    }
  }

  /** Forgets an expert everywhere but in the store. Requests that use it keep it to their end. @returns where it was. */
  async evict(digest: Digest): Promise<Tier[]> {
    const wasInSlot = this.residency.evict(digest);
    this.prefetcher.drop(digest);
    return [...(wasInSlot ? (['device'] as const) : []), ...(await this.#pager.drop(digest))];
  }
}
