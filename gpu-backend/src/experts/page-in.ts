/**
 * An expert's way into a slot: from the store or this machine's disk through the host cache, parameter by parameter as its bytes come in.
 */
import type { Digest, ExpertVersion } from '@signpost/contracts';
import { abortable, type DeltaFile, type Model, openArrivingDelta } from '@signpost/engine';
import type { IntegrityCheck } from '@signpost/store';
import type { Demand } from './demand.ts';
import type { DiskCache } from './disk-cache.ts';
import type { ExpertReader, ReadingOptions } from './expert-reader.ts';
import { HostCache, type HostFile } from './host-cache.ts';
import { StoreHealth } from './store-health.ts';

/** The nearest place that had the file when its load began. */
export type PageInSource = 'host' | 'disk' | 'store';

/** Loads that succeeded, since the start. */
export interface PageInCounts {
  readonly count: number;
  readonly bytes: number;
  readonly seconds: number;
}

/** Times that bytes from there failed a check, since the start: also those whose next reading was right. */
export type IntegrityFailures = Readonly<Record<'disk' | 'store', Readonly<Record<IntegrityCheck, number>>>>;

/** What a load's bytes and seconds still count in the mean rate after the next one. */
const RATE_MEMORY = 0.8;

export interface PagerOptions {
  readonly store: { readonly url: string; readonly read: ExpertReader };
  readonly model: Pick<Model, 'fillSlot'>;
  readonly hostCacheBytes: number;
  readonly demand: Demand;
  readonly disk: DiskCache | undefined;
  /** Told when a file has come into memory, whole, or left it. */
  readonly onChange?: () => void;
  /** Told now and then while the store is silent: see `refusal` and `isHopeless`. */
  readonly onSilence?: () => void;
  /** Told of a file that couldn't be kept on the disk. */
  readonly onProblem: (problem: string) => void;
}

export class Pager {
  readonly cache: HostCache;
  readonly #options: PagerOptions;
  /** By its bytes in memory: a file whose header is read already. */
  readonly #opened = new WeakMap<Uint8Array, DeltaFile>();
  /** Where the files that are on their way come from. */
  readonly #sources = new Map<Digest, PageInSource>();
  readonly #counts: Record<PageInSource, PageInCounts> = {
    host: { count: 0, bytes: 0, seconds: 0 },
    disk: { count: 0, bytes: 0, seconds: 0 },
    store: { count: 0, bytes: 0, seconds: 0 },
  };
  /** Of recent loads. */
  readonly #recent: Record<PageInSource, { readonly bytes: number; readonly seconds: number }> = {
    host: { bytes: 0, seconds: 0 },
    disk: { bytes: 0, seconds: 0 },
    store: { bytes: 0, seconds: 0 },
  };

  readonly #health: StoreHealth;
  readonly #integrityFailures = {
    disk: { chunk: 0, file: 0, size: 0 },
    store: { chunk: 0, file: 0, size: 0 },
  };

  constructor(options: PagerOptions) {
    const { store, disk, demand, onProblem, onChange = () => undefined, onSilence = () => undefined } = options;
    this.#options = options;
    const health = new StoreHealth(onSilence);
    this.#health = health;
    /** Files that came from afar, to be kept. */
    const fetched = new WeakSet<ExpertVersion>();
    const counting = (from: keyof IntegrityFailures, reading: ReadingOptions): ReadingOptions => ({
      ...reading,
      onMismatch: (check) => void this.#integrityFailures[from][check]++,
    });
    this.cache = new HostCache({
      budgetBytes: options.hostCacheBytes,
      demand: (digest) => demand.of(digest),
      onChange,
      read: async (version, reading) => {
        this.#sources.set(version.digest, 'disk');
        if (await disk?.read(version, counting('disk', reading))) return;
        this.#sources.set(version.digest, 'store');
        const reads = health.begins(version.digest);
        try {
          await store.read(version, counting('store', reads.hearing(reading)));
        } finally {
          reads.end();
        }
        fetched.add(version);
      },
      onWhole: (version) => {
        if (!fetched.delete(version) || disk === undefined) return;
        // Held from when it is being written: its bytes are memory's for as long, and counted.
        const hold = () => this.cache.hold(version.digest);
        disk.write(version, hold).catch((error: unknown) => {
          onProblem(`the disk cache can't keep ${version.digest}: ${error instanceof Error ? error.message : error}`);
        });
      },
    });
  }

  /** Whether the store has been silent for so long that it is taken to be down. */
  get isStoreDown(): boolean {
    return this.#health.isDown;
  }

  /** Why a load is not to begin now, since the store that it needs is down; undefined where it may. */
  refusal({ digest }: ExpertVersion): string | undefined {
    return this.#isNear(digest) ? undefined : this.#health.refusal;
  }

  /** Whether a load comes to nothing as long as the store is down. */
  isHopeless(digest: Digest): boolean {
    return this.#health.isHopeless(digest);
  }

  #isNear(digest: Digest): boolean {
    return this.cache.hasBegun(digest) || this.#options.disk?.holds(digest) === true;
  }

  get integrityFailures(): IntegrityFailures {
    return this.#integrityFailures;
  }

  get counts(): Readonly<Record<PageInSource, PageInCounts>> {
    return this.#counts;
  }

  /** Mean rates of recent loads, in bytes/s; null before the first. */
  get bytesPerSecond(): Readonly<Record<PageInSource, number | null>> {
    const rate = ({ bytes, seconds }: { bytes: number; seconds: number }) => (seconds === 0 ? null : bytes / seconds);
    const { host, disk, store } = this.#recent;
    return { host: rate(host), disk: rate(disk), store: rate(store) };
  }

  /** Forgets a file, in memory and on the disk. @returns where it was. */
  async drop(digest: Digest): Promise<('host' | 'disk')[]> {
    const wasInMemory = this.cache.drop(digest);
    const wasOnDisk = (await this.#options.disk?.drop(digest)) === true;
    return [...(wasInMemory ? (['host'] as const) : []), ...(wasOnDisk ? (['disk'] as const) : [])];
  }

  /** Fills a slot. @throws what the reading fails with, Problem when the file doesn't fit the base, the `signal`'s reason when it aborts. */
  async load(version: ExpertVersion, slot: number, signal: AbortSignal): Promise<void> {
    const { store, model } = this.#options;
    const started = performance.now();
    const wasHere = this.cache.holds(version.digest);
    const acquired = this.cache.acquire(version, signal);
    let file: HostFile | undefined;
    // Nothing is waited for that is there: a file in memory has hundreds of parameters.
    const until = (end: number) =>
      file?.has(end) === true
        ? undefined
        : abortable(
            acquired.then((one) => one.until(end)),
            signal,
          );
    const open = async () => {
      file = await acquired;
      const { bytes } = file;
      const delta = this.#opened.get(bytes) ?? (await openArrivingDelta(bytes, `${store.url}/${version.key}`, until));
      this.#opened.set(bytes, delta);
      return delta;
    };
    try {
      // Called before anything is awaited: no step may take what was in the slot before for this expert.
      await model.fillSlot(slot, open(), until);
      const source = wasHere ? 'host' : (this.#sources.get(version.digest) ?? 'store');
      this.#count(source, version.bytes, (performance.now() - started) / 1000);
    } finally {
      this.#sources.delete(version.digest);
      (await acquired).release();
    }
  }

  #count(source: PageInSource, bytes: number, seconds: number): void {
    const before = this.#counts[source];
    this.#counts[source] = {
      count: before.count + 1,
      bytes: before.bytes + bytes,
      seconds: before.seconds + seconds,
    };
    const recent = this.#recent[source];
    this.#recent[source] = {
      bytes: recent.bytes * RATE_MEMORY + bytes,
      seconds: recent.seconds * RATE_MEMORY + seconds,
    };
  }
}
