/**
 * Delta files in this machine's memory, on their way to device slots and after: a file is used while it comes in, read once for all who want it, given
 * up when nobody wants it any more, and kept until its memory is needed.
 *
 * Knows bytes and their checks, not what is in them. A full cache makes loads wait, in order; a file in use is never taken, and of the others those go first
 * that are asked for least: a byte of one costs as much to bring in again as a byte of another.
 */
import { type Digest, type ExpertVersion, Problem } from '@signpost/contracts';
import { abortable, clearedMemory, largeMemory } from '@signpost/engine';
import type { ExpertReader } from './expert-reader.ts';
import type { LoadCounts } from './residency.ts';

export interface HostCacheOptions {
  /** Bytes of files it may hold. */
  readonly budgetBytes: number;
  /** Requests of late for an expert; where it says the same of two, the one used longest ago goes first. */
  readonly demand: (digest: Digest) => number;
  /** Hands out a file's bytes, checked. */
  readonly read: ExpertReader;
  /** Told of each file that is whole, once it was read. */
  readonly onWhole?: (version: ExpertVersion) => void;
  /** Told when `whole` has changed. */
  readonly onChange?: () => void;
  /** Gives memory that costs nothing any more to write to; the system's, by a thread that gives way to all others, if left out. */
  readonly prepare?: (bytes: number) => Promise<ArrayBuffer>;
}

/** A file that somebody uses. */
export interface HostFile {
  /** As long as the whole file; valid as far as `until` has said. */
  readonly bytes: Uint8Array;
  /** Whether the first `end` bytes are in. */
  has(end: number): boolean;
  /** Waits until they are. @throws what the reading failed with. */
  until(end: number): Promise<void>;
  /** Once. Ends the reading when it was the last who waited for it. */
  release(): void;
}

interface Entry {
  readonly version: ExpertVersion;
  readonly bytes: Uint8Array;
  readonly abort: AbortController;
  readonly waiters: Set<Waiter>;
  available: number;
  users: number;
  /** No longer the cache's: its memory is free again when its users have left. */
  isDropped: boolean;
  failure: { readonly error: unknown } | undefined;
}

interface Waiter {
  readonly end: number;
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

export interface HostCacheState {
  readonly bytes: number;
  /** Whole or on their way. */
  readonly files: readonly Digest[];
  readonly whole: readonly Digest[];
  readonly lookups: number;
  readonly hits: number;
  readonly evictions: number;
  /** Of files that nobody had asked for yet. */
  readonly loads: LoadCounts;
}

export class HostCache {
  readonly #options: HostCacheOptions;
  /** The one used last stands last. */
  readonly #entries = new Map<Digest, Entry>();
  /** Bytes of the entries, of those about to begin, and of failed ones that are still in use. */
  #used = 0;
  /** For a file as long as the last one, while there is room for one: pages that the system must first find cost a load on a fast link a third of its time. */
  #ahead: Uint8Array | undefined;
  #isPreparing = false;
  /** Who waits for memory. */
  readonly #queue: { readonly bytes: number; readonly begin: () => void }[] = [];
  #lookups = 0;
  #hits = 0;
  #evictions = 0;
  #loads: LoadCounts = { loaded: 0, failed: 0, cancelled: 0 };

  constructor(options: HostCacheOptions) {
    this.#options = options;
  }

  get state(): HostCacheState {
    return {
      bytes: this.#used,
      files: [...this.#entries.keys()],
      whole: [...this.#entries.keys()].filter((digest) => this.holds(digest)),
      lookups: this.#lookups,
      hits: this.#hits,
      evictions: this.#evictions,
      loads: this.#loads,
    };
  }

  /** Whether the whole file is here. */
  holds(digest: Digest): boolean {
    return this.#whole(digest) !== undefined;
  }

  /** Whether some of its bytes are here: it is, or it comes. */
  hasBegun(digest: Digest): boolean {
    return (this.#entries.get(digest)?.available ?? 0) > 0;
  }

  /** A file that is here, whole; undefined where it isn't. No lookup, and no sign that it is asked for. */
  hold(digest: Digest): HostFile | undefined {
    const entry = this.#whole(digest);
    return entry && this.#use(entry);
  }

  /**
   * Brings a file in that nobody has asked for yet, unless that would cost one that is asked for as often.
   *
   * @returns whether it is here. @throws what the reading fails with.
   */
  async warm(version: ExpertVersion, signal: AbortSignal): Promise<boolean> {
    const { demand, budgetBytes } = this.#options;
    if (!this.#entries.has(version.digest)) {
      const wanted = demand(version.digest);
      const spare = this.#idle().filter((entry) => demand(entry.version.digest) < wanted);
      const room = spare.reduce((sum, entry) => sum + entry.version.bytes, budgetBytes - this.#used);
      if (this.#queue.length > 0 || room < version.bytes) return false;
    }
    const wasHere = this.holds(version.digest);
    try {
      const file = await this.acquire(version, signal);
      await abortable(file.until(version.bytes), signal).finally(() => file.release());
    } catch (error) {
      this.#end(signal.aborted ? 'cancelled' : 'failed');
      throw error;
    }
    if (!wasHere) this.#end('loaded');
    return true;
  }

  #end(outcome: keyof LoadCounts): void {
    this.#loads = { ...this.#loads, [outcome]: this.#loads[outcome] + 1 };
  }

  /** Forgets a file; who uses it keeps it to their end. @returns whether it was here. */
  drop(digest: Digest): boolean {
    const entry = this.#entries.get(digest);
    if (entry === undefined) return false;
    this.#entries.delete(digest);
    entry.isDropped = true;
    if (entry.users === 0) this.#free(entry.version.bytes);
    this.#options.onChange?.();
    return true;
  }

  /**
   * A file that is here, on its way, or now begun.
   *
   * @throws Problem for one that is larger than the cache; the `signal`'s reason when it aborts while memory is waited for.
   */
  async acquire(version: ExpertVersion, signal: AbortSignal): Promise<HostFile> {
    const { budgetBytes } = this.#options;
    if (version.bytes > budgetBytes)
      throw new Problem(
        `its delta file has ${version.bytes} bytes, the host cache ${budgetBytes}; raise --host-cache-bytes`,
      );
    this.#lookups++;
    let entry = this.#entries.get(version.digest);
    if (entry !== undefined) this.#hits++;
    else {
      if (this.#queue.length > 0 || !this.#reserve(version.bytes)) await this.#room(version.bytes, signal);
      // Somebody else may have begun it meanwhile.
      entry = this.#entries.get(version.digest);
      if (entry !== undefined) this.#free(version.bytes);
      else entry = this.#begin(version);
    }
    this.#entries.delete(version.digest);
    this.#entries.set(version.digest, entry);
    return this.#use(entry);
  }

  #whole(digest: Digest): Entry | undefined {
    const entry = this.#entries.get(digest);
    return entry !== undefined && entry.available === entry.version.bytes ? entry : undefined;
  }

  #use(entry: Entry): HostFile {
    entry.users++;
    let isReleased = false;
    return {
      bytes: entry.bytes,
      has: (end) => entry.available >= end,
      until: (end) =>
        new Promise((resolve, reject) => {
          if (entry.available >= end) resolve();
          else if (entry.failure !== undefined) reject(entry.failure.error);
          else entry.waiters.add({ end, resolve, reject });
        }),
      release: () => {
        if (isReleased) throw new Error(`${entry.version.digest} is released twice`);
        isReleased = true;
        entry.users--;
        if (entry.users > 0) return;
        if (entry.failure === undefined && entry.available < entry.version.bytes) {
          const unwanted = new Error('nobody waits for it any more');
          this.#fail(entry, unwanted);
          entry.abort.abort(unwanted);
        }
        if (entry.failure === undefined && !entry.isDropped) this.#serve();
        else this.#free(entry.bytes.byteLength);
      },
    };
  }

  /** Its memory is reserved. */
  #begin(version: ExpertVersion): Entry {
    const entry: Entry = {
      version,
      bytes: this.#allocate(version.bytes),
      abort: new AbortController(),
      waiters: new Set(),
      available: 0,
      users: 0,
      isDropped: false,
      failure: undefined,
    };
    this.#entries.set(version.digest, entry);
    void this.#read(entry);
    return entry;
  }

  /** @throws RangeError where the machine has less memory than the budget says; then nothing of it is taken. */
  #allocate(bytes: number): Uint8Array {
    const ahead = this.#ahead;
    if (ahead?.byteLength === bytes) {
      this.#ahead = undefined;
      return ahead;
    }
    try {
      return new Uint8Array(largeMemory(bytes));
    } catch (error) {
      this.#free(bytes);
      throw error;
    }
  }

  async #read(entry: Entry): Promise<void> {
    const { version, bytes, abort } = entry;
    try {
      await this.#options.read(version, {
        signal: abort.signal,
        onChunk: (data, start) => {
          const end = start + data.byteLength;
          // What was checked already comes again where a second source had to take over.
          if (entry.failure !== undefined || end <= entry.available) return;
          bytes.set(data, start);
          // Whole when its reading says so: a file without chunk hashes is right only then.
          this.#reach(entry, Math.min(end, version.bytes - 1));
        },
      });
      if (entry.failure !== undefined) return;
      this.#reach(entry, version.bytes);
      this.#options.onWhole?.(version);
      this.#options.onChange?.();
      void this.#prepare(version.bytes);
    } catch (error) {
      this.#fail(entry, error);
    }
  }

  /** Memory for the next file of that length, where that evicts nothing. */
  async #prepare(bytes: number): Promise<void> {
    const { budgetBytes, prepare = clearedMemory } = this.#options;
    if (this.#isPreparing || this.#ahead?.byteLength === bytes || this.#used + bytes > budgetBytes) return;
    this.#isPreparing = true;
    this.#ahead = undefined;
    // Without, it is found when it is needed.
    const memory = await prepare(bytes).catch(() => undefined);
    this.#isPreparing = false;
    if (memory !== undefined && this.#used + bytes <= budgetBytes) this.#ahead = new Uint8Array(memory);
  }

  #reach(entry: Entry, available: number): void {
    entry.available = available;
    for (const waiter of entry.waiters) {
      if (waiter.end > available) continue;
      entry.waiters.delete(waiter);
      waiter.resolve();
    }
  }

  /** The next who asks begins anew. */
  #fail(entry: Entry, error: unknown): void {
    if (entry.failure !== undefined) return;
    entry.failure = { error };
    if (this.#entries.get(entry.version.digest) === entry) this.#entries.delete(entry.version.digest);
    for (const { reject } of entry.waiters) reject(error);
    entry.waiters.clear();
  }

  /** Takes `bytes` of the budget, from files that nobody uses where need be; false, and nothing evicted, when that isn't enough. */
  #reserve(bytes: number): boolean {
    const idle = this.#idle();
    const free = this.#options.budgetBytes - this.#used;
    if (idle.reduce((sum, { version }) => sum + version.bytes, free) < bytes) return false;
    let hasEvicted = false;
    for (const { version } of idle) {
      if (this.#options.budgetBytes - this.#used >= bytes) break;
      this.#entries.delete(version.digest);
      this.#used -= version.bytes;
      this.#evictions++;
      hasEvicted = true;
    }
    if (hasEvicted) this.#options.onChange?.();
    this.#used += bytes;
    const ahead = this.#ahead?.byteLength ?? 0;
    if (ahead !== bytes && this.#used + ahead > this.#options.budgetBytes) this.#ahead = undefined;
    return true;
  }

  /** Files that nobody uses, the one to go next first. */
  #idle(): Entry[] {
    const { demand } = this.#options;
    return [...this.#entries.values()]
      .filter(({ users }) => users === 0)
      .map((entry) => ({ entry, demand: demand(entry.version.digest) }))
      .sort((a, b) => a.demand - b.demand)
      .map(({ entry }) => entry);
  }

  #free(bytes: number): void {
    this.#used -= bytes;
    this.#serve();
  }

  #room(bytes: number, signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      if (signal.aborted) return reject(signal.reason);
      const leave = () => {
        this.#queue.splice(this.#queue.indexOf(place), 1);
        reject(signal.reason);
        this.#serve();
      };
      const place = {
        bytes,
        begin: () => {
          signal.removeEventListener('abort', leave);
          resolve();
        },
      };
      signal.addEventListener('abort', leave, { once: true });
      this.#queue.push(place);
    });
  }

  #serve(): void {
    for (let first = this.#queue[0]; first !== undefined && this.#reserve(first.bytes); first = this.#queue[0]) {
      this.#queue.shift();
      first.begin();
    }
  }
}
