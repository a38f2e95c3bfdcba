/**
 * Experts in device slots: read from the store when first asked, shared by all who ask, kept until the slot is needed.
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
  /** Fills a slot. Rejects when the expert can't be had; the slot's content is then undefined. */
  readonly load: (version: ExpertVersion, slot: number) => Promise<void>;
}

/** Slots of a request's experts, in its order, until it releases them. */
export interface Lease {
  readonly slots: readonly number[];
  release(): void;
}

interface Waiter {
  readonly versions: readonly ExpertVersion[];
  readonly grant: (lease: Promise<Lease>) => void;
  overtakes: number;
}

export class Residency {
  readonly #options: ResidencyOptions;
  readonly #table: SlotTable;
  /** By slot: the load its users wait for. */
  readonly #loads = new Map<number, Promise<void>>();
  readonly #loading = new Set<Digest>();
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
  } {
    const loading = [...this.#loading];
    return {
      slots: this.#table.size,
      slotsFree: this.#table.free,
      resident: this.#table.digests().filter((digest) => !this.#loading.has(digest)),
      loading,
      waiting: this.#waiters.length,
    };
  }

  /**
   * A lease on slots that hold these experts, once they are loaded.
   *
   * @throws ApiError (400) for more experts than there are slots, (503) when one can't be loaded; the `signal`'s reason when it aborts.
   */
  async acquire(versions: readonly ExpertVersion[], signal: AbortSignal): Promise<Lease> {
    if (versions.length > this.#table.size) {
      throw new ApiError(
        'invalid_request_error',
        'too_many_experts',
        `the mixture has ${versions.length} experts, this region has ${this.#table.size} slots`,
      );
    }
    if (versions.length === 0) return { slots: [], release() {} };
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
  #tryLease(versions: readonly ExpertVersion[]): Promise<Lease> | undefined {
    const acquired = this.#table.acquire(versions.map(({ digest }) => digest));
    if (acquired === undefined) return undefined;
    const loads = acquired.map(({ slot, isNew }, i) => {
      const version = versions[i];
      if (isNew && version !== undefined) this.#loads.set(slot, this.#load(version, slot));
      return this.#loads.get(slot);
    });
    const slots = acquired.map(({ slot }) => slot);
    const release = () => {
      for (const slot of slots) this.#table.release(slot);
      this.#serveWaiters();
    };
    // All of them, also where one fails: a slot that is still being filled must not go to somebody else.
    return Promise.allSettled(loads).then((results) => {
      const failure = results.find((result) => result.status === 'rejected');
      if (failure === undefined) return { slots, release };
      release();
      throw failure.reason;
    });
  }

  async #load(version: ExpertVersion, slot: number): Promise<void> {
    this.#loading.add(version.digest);
    try {
      await this.#options.load(version, slot);
    } catch (cause) {
      this.#table.invalidate(slot);
      const why = cause instanceof Error ? cause.message : String(cause);
      throw new ApiError('server_error', 'expert_unavailable', `expert ${version.digest} can't be loaded: ${why}`, {
        status: 503,
        cause,
      });
    } finally {
      this.#loading.delete(version.digest);
      // The slot's state now speaks for itself; a failed load is tried again by the next request.
      this.#loads.delete(slot);
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
