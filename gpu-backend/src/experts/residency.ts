/**
 * Experts in device slots: read from the store when first asked, shared by all who ask, given up when nobody waits any more, kept until the slot is
 * needed, or for as long as they are pinned.
 *
 * Knows slots and loading, not tokens. A full slot table makes requests wait, in order; it never fails one.
 */
import { ApiError, type Digest, type ExpertVersion } from '@signpost/contracts';
import { abortable } from '@signpost/engine';
import { Demand } from './demand.ts';
import { type SlotState, SlotTable } from './slot-table.ts';

/**
 * Requests whose experts are already in slots may pass one that waits for a slot, for throughput, but only so often: then they queue
 * behind it, the slots run empty, and it gets its turn.
 */
export const MAX_OVERTAKES = 32;

export interface ResidencyOptions {
  readonly slots: number;
  /** Fills a slot, which from the call on is none of what it was before. Rejects when the expert can't be had, or `signal` aborts; the slot's content is then undefined. */
  readonly load: (version: ExpertVersion, slot: number, signal: AbortSignal) => Promise<void>;
  /** Why a load is not to begin now; undefined, as where it is left out, where nothing speaks against it. */
  readonly refusal?: (version: ExpertVersion) => string | undefined;
  /** Whether a load under way is to give up its slot to whoever could use it. */
  readonly isHopeless?: (digest: Digest) => boolean;
  /** Shared with whatever else keeps experts; its own if left out. */
  readonly demand?: Demand;
  /** Told when an expert has come, gone, or is on its way. */
  readonly onChange?: () => void;
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
}

export interface ResidencyState {
  readonly slots: number;
  /** Those that could be given to another expert now. */
  readonly slotsFree: number;
  readonly content: readonly SlotState[];
  readonly resident: readonly Digest[];
  readonly loading: readonly Digest[];
  readonly waiting: number;
  readonly loads: LoadCounts;
  /** Experts asked for, and those found in a slot, whole. */
  readonly lookups: number;
  readonly hits: number;
  readonly evictions: number;
}

interface Load {
  readonly digest: Digest;
  /** Nobody has asked for it yet. */
  isAhead: boolean;
  readonly abort: AbortController;
  readonly done: Promise<void>;
}

interface Waiter {
  readonly versions: readonly ExpertVersion[];
  readonly grant: (lease: Lease) => void;
  readonly refuse: (error: unknown) => void;
  overtakes: number;
}

export class Residency {
  readonly #options: ResidencyOptions;
  readonly #demand: Demand;
  readonly #table: SlotTable;
  /** By slot: what fills it. */
  readonly #loads = new Map<number, Load>();
  #counts: LoadCounts = { loaded: 0, failed: 0, cancelled: 0 };
  #lookups = 0;
  #hits = 0;
  readonly #waiters: Waiter[] = [];

  constructor(options: ResidencyOptions) {
    this.#options = options;
    const demand = options.demand ?? new Demand();
    this.#demand = demand;
    this.#table = new SlotTable(options.slots, (digest) => demand.of(digest));
  }

  get state(): ResidencyState {
    const loading = [...this.#loads.values()].filter(({ abort }) => !abort.signal.aborted).map(({ digest }) => digest);
    const content = this.#table.content();
    return {
      slots: this.#table.size,
      slotsFree: this.#table.free,
      content,
      resident: content.map(({ digest }) => digest).filter((digest) => !loading.includes(digest)),
      loading,
      waiting: this.#waiters.length,
      loads: this.#counts,
      lookups: this.#lookups,
      hits: this.#hits,
      evictions: this.#table.evictions,
    };
  }

  /** Whether it is in a slot, or on its way into one. */
  has(digest: Digest): boolean {
    return this.#table.find(digest) !== undefined;
  }

  /**
   * A lease on slots for these experts, as soon as there are any; those that are new are then being filled.
   *
   * @throws ApiError (400) for more experts than there are slots that aren't pinned, (503) for one whose load is not to begin now; the `signal`'s reason when it aborts while they wait.
   */
  async acquire(versions: readonly ExpertVersion[], signal: AbortSignal): Promise<Lease> {
    if (versions.length === 0) return { slots: [], isWhole: true, whole: Promise.resolve(), release() {} };
    if (!this.#canHold(versions)) throw this.#tooMany(versions);
    this.#count(versions);
    const lease = this.#mayPass() ? this.#tryLease(versions) : undefined;
    if (lease !== undefined) {
      for (const waiter of this.#waiters) waiter.overtakes++;
      return lease;
    }
    return this.#wait(versions, signal);
  }

  /** Brings an expert into a slot as a request for it would, and leaves it there. @throws as `acquire` and the lease's `whole`; the `signal`'s reason when it aborts. */
  async bringIn(version: ExpertVersion, signal: AbortSignal): Promise<void> {
    const lease = await this.acquire([version], signal);
    await abortable(lease.whole, signal).finally(() => lease.release());
  }

  /** Keeps these in their slots from when they get there, in place of those pinned before. Who now waits for more slots than are left is refused. */
  pin(digests: readonly Digest[]): void {
    this.#table.pin(digests);
    for (const waiter of this.#waiters.filter(({ versions }) => !this.#canHold(versions))) {
      this.#waiters.splice(this.#waiters.indexOf(waiter), 1);
      waiter.refuse(this.#tooMany(waiter.versions));
    }
    this.#serveWaiters();
    this.#options.onChange?.();
  }

  /**
   * Fills an empty slot with an expert that nobody has asked for yet. It is given up when somebody needs the slot before it is full.
   *
   * @returns whether it came in or was given up; undefined where there is no slot to spare, or the expert is here. @throws as `whole`; the `signal`'s reason
   * once it has ended for that: at once, unless somebody has asked for the expert meanwhile.
   */
  loadAhead(version: ExpertVersion, signal: AbortSignal): Promise<boolean> | undefined {
    if (this.has(version.digest) || this.#waiters.length > 0 || this.#table.empty === 0) return undefined;
    if (this.#options.refusal?.(version) !== undefined) return undefined;
    const [acquired] = this.#table.acquire([version]) ?? [];
    if (acquired === undefined) return undefined;
    const { slot } = acquired;
    const load = this.#begin(version, slot, { isAhead: true });
    this.#table.release(slot);
    const leave = () => {
      if (this.#loads.get(slot) === load) this.#giveUp(slot, load, signal.reason);
    };
    signal.addEventListener('abort', leave, { once: true });
    return load.done
      .then(
        () => true,
        (error: unknown) => {
          signal.throwIfAborted();
          if (load.abort.signal.aborted) return false;
          throw error;
        },
      )
      .finally(() => signal.removeEventListener('abort', leave));
  }

  /** Takes an expert out of its slot; requests that use it keep it to their end, later ones load it anew. @returns whether it was there. */
  evict(digest: Digest): boolean {
    const slot = this.#table.find(digest);
    if (slot === undefined) return false;
    this.#table.invalidate(slot);
    const load = this.#loads.get(slot);
    if (load !== undefined) this.#giveUp(slot, load, new Error('it was evicted'));
    this.#serveWaiters();
    this.#options.onChange?.();
    return true;
  }

  /** Ready in a slot, or on its way: both keep those from waiting who come next, but the latter is no hit. */
  #count(versions: readonly ExpertVersion[]): void {
    for (const { digest } of versions) {
      const slot = this.#table.find(digest);
      const isHit = slot !== undefined && !this.#loads.has(slot);
      this.#lookups++;
      this.#hits += Number(isHit);
      this.#demand.count(digest, isHit);
    }
  }

  #canHold(versions: readonly ExpertVersion[]): boolean {
    return this.#table.canHold(versions.map(({ digest }) => digest));
  }

  #tooMany(versions: readonly ExpertVersion[]): ApiError {
    const pinned = this.#table.content().filter(({ isPinned }) => isPinned).length;
    const others = pinned === 0 ? '' : `, of which ${pinned} ${pinned === 1 ? 'is' : 'are'} kept for pinned experts`;
    return new ApiError(
      'invalid_request_error',
      'too_many_experts',
      `the mixture has ${versions.length} experts, this region has ${this.#table.size} slots${others}`,
    );
  }

  #mayPass(): boolean {
    return this.#waiters.every(({ overtakes }) => overtakes < MAX_OVERTAKES);
  }

  #wait(versions: readonly ExpertVersion[], signal: AbortSignal): Promise<Lease> {
    return new Promise((resolve, reject) => {
      const waiter: Waiter = { versions, grant: resolve, refuse: reject, overtakes: 0 };
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

  /** Slots for all of the experts, being filled where they are new; `undefined` when too few are free. @throws ApiError (503) where a load is not to begin now. */
  #tryLease(versions: readonly ExpertVersion[]): Lease | undefined {
    for (const version of versions) {
      const why = this.has(version.digest) ? undefined : this.#options.refusal?.(version);
      if (why !== undefined) throw unavailable(version, why);
    }
    const acquired = this.#table.acquire(versions);
    if (acquired === undefined) {
      this.#giveUpOthers(versions);
      return undefined;
    }
    for (const [i, { slot, isNew }] of acquired.entries()) {
      const version = versions[i];
      if (isNew && version !== undefined) this.#begin(version, slot, { isAhead: false });
    }
    const slots = acquired.map(({ slot }) => slot);
    const loads = slots.flatMap((slot) => this.#loads.get(slot) ?? []);
    for (const load of loads) load.isAhead = false;
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

  /** Looks again whether those who wait can be served: more loads may be hopeless now. */
  reconsider(): void {
    this.#serveWaiters();
  }

  /** Slots that are being filled for nobody yet go to who needs them now, as do those of which nothing will come. */
  #giveUpOthers(versions: readonly ExpertVersion[]): void {
    for (const [slot, load] of this.#loads) {
      if (versions.some(({ digest }) => digest === load.digest)) continue;
      if (load.isAhead) this.#giveUp(slot, load, new Error('its slot was needed'));
      else if (this.#options.isHopeless?.(load.digest) === true)
        this.#cancel(slot, load, new Error('the store does not answer, and its slot was needed'));
    }
  }

  /** Ends a load, unless somebody has asked for its expert. */
  #giveUp(slot: number, load: Load, why: unknown): void {
    if (load.isAhead) this.#cancel(slot, load, why);
  }

  #cancel(slot: number, { abort }: Load, why: unknown): void {
    if (abort.signal.aborted) return;
    this.#table.invalidate(slot);
    abort.abort(why);
  }

  #begin(version: ExpertVersion, slot: number, { isAhead }: { readonly isAhead: boolean }): Load {
    const abort = new AbortController();
    this.#table.hold(slot);
    const done = this.#load(version, slot, abort.signal);
    done.catch(() => undefined);
    const load = { digest: version.digest, isAhead, abort, done };
    this.#loads.set(slot, load);
    this.#options.onChange?.();
    return load;
  }

  async #load(version: ExpertVersion, slot: number, signal: AbortSignal): Promise<void> {
    try {
      await this.#options.load(version, slot, signal);
      this.#end('loaded');
    } catch (cause) {
      this.#end(signal.aborted ? 'cancelled' : 'failed');
      this.#table.invalidate(slot);
      throw unavailable(version, cause instanceof Error ? cause.message : String(cause), cause);
    } finally {
      // The slot's state now speaks for itself; a failed load is tried again by the next request.
      this.#loads.delete(slot);
      this.#table.release(slot);
      this.#serveWaiters();
      this.#options.onChange?.();
    }
  }

  #end(outcome: keyof LoadCounts): void {
    this.#counts = { ...this.#counts, [outcome]: this.#counts[outcome] + 1 };
  }

  /** Serves who waits, in order; those behind one that must wait on only while it allows. */
  #serveWaiters(): void {
    for (let i = 0; i < this.#waiters.length; ) {
      const waiter = this.#waiters[i];
      if (waiter === undefined) return;
      let lease: Lease | undefined;
      try {
        lease = this.#tryLease(waiter.versions);
      } catch (error) {
        this.#waiters.splice(i, 1);
        waiter.refuse(error);
        continue;
      }
      if (lease !== undefined) {
        this.#waiters.splice(i, 1);
        for (const passed of this.#waiters.slice(0, i)) passed.overtakes++;
        waiter.grant(lease);
      } else if (waiter.overtakes >= MAX_OVERTAKES) return;
      else i++;
    }
  }
}

function unavailable({ digest }: ExpertVersion, why: string, cause?: unknown): ApiError {
  const message = `expert ${digest} can't be loaded: ${why}`;
  return new ApiError('server_error', 'expert_unavailable', message, { status: 503, cause });
}
