/**
 * Experts in device slots: read from the store when first asked, shared by all who ask, given up when nobody waits any more, kept until the slot is
 * needed.
 *
 * Knows slots and loading, not tokens. A full slot table makes requests wait, in order; it never fails one.
 */
import { ApiError, type Digest, type ExpertVersion } from '@signpost/contracts';
import { SlotTable } from './slot-table.ts';

/**
 * Requests whose experts are already in slots may pass one that waits for a slot, for throughput, but only so often: then they queue
 * behind it, the slots run empty, and it gets its turn.
 */
export const MAX_OVERTAKES = 32;

export interface ResidencyOptions {
  readonly slots: number;
  /** Fills a slot, which from the call on is none of what it was before. Rejects when the expert can't be had, or `signal` aborts; the slot's content is then undefined. */
  readonly load: (version: ExpertVersion, slot: number, signal: AbortSignal) => Promise<void>;
}

/** Slots of a request's experts, in its order, until it releases them. Some may still be filled. */
export interface Lease {
  readonly slots: readonly number[];
  readonly isWhole: boolean;
  /** Resolves when all are filled. @throws ApiError (503) when one can't be. */
  readonly whole: Promise<void>;
  /** A load that nobody else waits for is cancelled. */
  release(): void;
}

/** Counted since the start. */
export interface LoadCounts {
  readonly loaded: number;
  readonly failed: number;
  readonly cancelled: number;
  /** Of those that were loaded. */
  readonly bytes: number;
  readonly seconds: number;
}

interface Load {
  readonly digest: Digest;
  readonly abort: AbortController;
  readonly done: Promise<void>;
}

interface Waiter {
  readonly versions: readonly ExpertVersion[];
  readonly grant: (lease: Lease) => void;
  overtakes: number;
}

export class Residency {
  readonly #options: ResidencyOptions;
  readonly #table: SlotTable;
  /** By slot: what fills it. */
  readonly #loads = new Map<number, Load>();
  #counts: LoadCounts = { loaded: 0, failed: 0, cancelled: 0, bytes: 0, seconds: 0 };
  readonly #waiters: Waiter[] = [];

  constructor(options: ResidencyOptions) {
    this.#options = options;
    this.#table = new SlotTable(options.slots);
  }

  /** For the heartbeat. */
  get state(): {
    readonly slots: number;
    readonly slotsFree: number;
    readonly resident: Digest[];
    readonly loading: Digest[];
    readonly waiting: number;
    readonly loads: LoadCounts;
  } {
    const loading = [...this.#loads.values()].filter(({ abort }) => !abort.signal.aborted).map(({ digest }) => digest);
    return {
      slots: this.#table.size,
      slotsFree: this.#table.free,
      resident: this.#table.digests().filter((digest) => !loading.includes(digest)),
      loading,
      waiting: this.#waiters.length,
      loads: this.#counts,
    };
  }

  /**
   * A lease on slots for these experts, as soon as there are any; those that are new are then being filled.
   *
   * @throws ApiError (400) for more experts than there are slots; the `signal`'s reason when it aborts while they wait.
   */
  async acquire(versions: readonly ExpertVersion[], signal: AbortSignal): Promise<Lease> {
    if (versions.length > this.#table.size) {
      throw new ApiError(
        'invalid_request_error',
        'too_many_experts',
        `the mixture has ${versions.length} experts, this region has ${this.#table.size} slots`,
      );
    }
    if (versions.length === 0) return { slots: [], isWhole: true, whole: Promise.resolve(), release() {} };
    const lease = this.#mayPass() ? this.#tryLease(versions) : undefined;
    if (lease !== undefined) {
      for (const waiter of this.#waiters) waiter.overtakes++;
      return lease;
    }
    return this.#wait(versions, signal);
  }

  #mayPass(): boolean {
    return this.#waiters.every(({ overtakes }) => overtakes < MAX_OVERTAKES);
  }

  #wait(versions: readonly ExpertVersion[], signal: AbortSignal): Promise<Lease> {
    return new Promise((resolve, reject) => {
      const waiter: Waiter = { versions, grant: resolve, overtakes: 0 };
      this.#waiters.push(waiter);
      signal.addEventListener(
        'abort',
        () => {
          const index = this.#waiters.indexOf(waiter);
          if (index === -1) return;
          this.#waiters.splice(index, 1);
          reject(signal.reason);
          this.#serveWaiters();
        },
        { once: true },
      );
    });
  }

  /** Slots for all of the experts, being filled where they are new; `undefined` when too few are free. */
  #tryLease(versions: readonly ExpertVersion[]): Lease | undefined {
    const acquired = this.#table.acquire(versions.map(({ digest }) => digest));
    if (acquired === undefined) return undefined;
    for (const [i, { slot, isNew }] of acquired.entries()) {
      const version = versions[i];
      if (isNew && version !== undefined) this.#begin(version, slot);
    }
    const slots = acquired.map(({ slot }) => slot);
    const loads = slots.flatMap((slot) => this.#loads.get(slot) ?? []);
    const whole = Promise.all(loads.map(({ done }) => done)).then(() => undefined);
    // A holder that leaves need not look at it.
    whole.catch(() => undefined);
    return {
      slots,
      isWhole: loads.length === 0,
      whole,
      release: () => {
        for (const slot of slots) this.#leave(slot);
        this.#serveWaiters();
      },
    };
  }

  #leave(slot: number): void {
    this.#table.release(slot);
    const load = this.#loads.get(slot);
    if (load === undefined || load.abort.signal.aborted || this.#table.users(slot) > 1) return;
    // Only the load itself holds the slot, until it has ended; who asks for the expert meanwhile gets another.
    this.#table.invalidate(slot);
    load.abort.abort(new Error('nobody waits for it any more'));
  }

  #begin(version: ExpertVersion, slot: number): void {
    const abort = new AbortController();
    this.#table.hold(slot);
    const done = this.#load(version, slot, abort.signal);
    done.catch(() => undefined);
    this.#loads.set(slot, { digest: version.digest, abort, done });
  }

  async #load(version: ExpertVersion, slot: number, signal: AbortSignal): Promise<void> {
    const started = performance.now();
    try {
      await this.#options.load(version, slot, signal);
      const { loaded, bytes, seconds } = this.#counts;
      this.#counts = {
        ...this.#counts,
        loaded: loaded + 1,
        bytes: bytes + version.bytes,
        seconds: seconds + (performance.now() - started) / 1000,
      };
    } catch (cause) {
      const { cancelled, failed } = this.#counts;
      this.#counts = { ...this.#counts, ...(signal.aborted ? { cancelled: cancelled + 1 } : { failed: failed + 1 }) };
      this.#table.invalidate(slot);
      const why = cause instanceof Error ? cause.message : String(cause);
      throw new ApiError('server_error', 'expert_unavailable', `expert ${version.digest} can't be loaded: ${why}`, {
        status: 503,
        cause,
      });
    } finally {
      // The slot's state now speaks for itself; a failed load is tried again by the next request.
      this.#loads.delete(slot);
      this.#table.release(slot);
      this.#serveWaiters();
    }
  }

  /** Serves who waits, in order; those behind one that must wait on only while it allows. */
  #serveWaiters(): void {
    for (let i = 0; i < this.#waiters.length; ) {
      const waiter = this.#waiters[i];
      if (waiter === undefined) return;
      const lease = this.#tryLease(waiter.versions);
      if (lease !== undefined) {
        this.#waiters.splice(i, 1);
        for (const passed of this.#waiters.slice(0, i)) passed.overtakes++;
        waiter.grant(lease);
      } else if (waiter.overtakes >= MAX_OVERTAKES) return;
      else i++;
    }
  }
}
