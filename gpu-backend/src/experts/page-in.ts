/**
 * An expert's way into a slot: from the store or this machine's disk through the host cache, parameter by parameter as its bytes come in.
 */
import type { ExpertVersion } from '@signpost/contracts';
import { abortable, type Model, openArrivingDelta } from '@signpost/engine';
import { type ObjectStore, readVerified } from '@signpost/store';
import type { DiskCache } from './disk-cache.ts';
import { HostCache } from './host-cache.ts';
import { FairLink } from './link.ts';

/** Ranges under way at once: of all loads, and of one that is alone. */
const PARALLEL_READS = 8;

export interface PagerOptions {
  readonly store: ObjectStore;
  readonly model: Pick<Model, 'fillSlot'>;
  readonly hostCacheBytes: number;
  readonly disk: DiskCache | undefined;
  /** Told of a file that couldn't be kept on the disk. */
  readonly onProblem: (problem: string) => void;
}

export class Pager {
  readonly cache: HostCache;
  readonly #options: PagerOptions;

  constructor(options: PagerOptions) {
    const { store, disk, onProblem } = options;
    this.#options = options;
    const link = new FairLink(store, PARALLEL_READS);
    /** Whole files that came from afar, to be kept. */
    const fetched = new Set<ExpertVersion>();
    this.cache = new HostCache({
      budgetBytes: options.hostCacheBytes,
      read: async (version, reading) => {
        if (await disk?.read(version, reading)) return;
        await readVerified(link.share(), version, { ...reading, parallel: PARALLEL_READS });
        fetched.add(version);
      },
      onWhole: (version, bytes) => {
        if (!fetched.delete(version) || disk === undefined) return;
        disk.write(version, bytes).catch((error: unknown) => {
          onProblem(`the disk cache can't keep ${version.digest}: ${error instanceof Error ? error.message : error}`);
        });
      },
    });
  }

  /** Fills a slot. @throws what the reading fails with, Problem when the file doesn't fit the base, the `signal`'s reason when it aborts. */
  async load(version: ExpertVersion, slot: number, signal: AbortSignal): Promise<void> {
    const { store, model } = this.#options;
    const acquired = this.cache.acquire(version, signal);
    const until = async (end: number) => abortable((await acquired).until(end), signal);
    const open = async () => openArrivingDelta((await acquired).bytes, `${store.url}/${version.key}`, until);
    try {
      // Called before anything is awaited: no step may take what was in the slot before for this expert.
      await model.fillSlot(slot, open(), until);
    } finally {
      (await acquired).release();
    }
  }
}
