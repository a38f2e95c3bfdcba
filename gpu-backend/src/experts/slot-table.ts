/**
 * Fixed-size device slots for experts: which digest sits where, and who still uses it.
 *
 * Knows nothing of bytes in stores (see residency.ts). A slot in use is never taken, nor one whose expert is pinned; of the others the one whose expert would be
 * missed least goes first: requests of late times its bytes, which is what they would cost to bring in again (the value of GreedyDual-Size-Frequency, Cherkasova
 * 1998, with bytes as the cost and slots of one size).
 */
import type { Digest } from '@signpost/contracts';

interface Entry {
  digest: Digest | undefined;
  bytes: number;
  users: number;
  /** Rises with every use. */
  lastUse: number;
}

/** An expert version, as far as slots are concerned. */
export interface SlotContent {
  readonly digest: Digest;
  readonly bytes: number;
}

export interface Acquired {
  readonly slot: number;
  /** The digest wasn't there: the slot must be filled before it is used. */
  readonly isNew: boolean;
}

/** What sits in a slot. */
export interface SlotState {
  readonly slot: number;
  readonly digest: Digest;
  /** Of its delta file. */
  readonly bytes: number;
  readonly users: number;
  readonly isPinned: boolean;
}

export class SlotTable {
  readonly #entries: Entry[];
  readonly #demand: (digest: Digest) => number;
  #pinned: ReadonlySet<Digest> = new Set();
  #clock = 0;
  #evictions = 0;

  /** @param demand requests of late for an expert. */
  constructor(slots: number, demand: (digest: Digest) => number) {
    this.#entries = Array.from({ length: slots }, () => ({ digest: undefined, bytes: 0, users: 0, lastUse: 0 }));
    this.#demand = demand;
  }

  get size(): number {
    return this.#entries.length;
  }

  /** Slots that could be given to another expert now. */
  get free(): number {
    return this.#entries.filter((entry) => this.#isFree(entry)).length;
  }

  /** Slots that nobody uses and that hold nothing. */
  get empty(): number {
    return this.#entries.filter(({ users, digest }) => users === 0 && digest === undefined).length;
  }

  /** Experts that gave up their slot to another one, since the start. */
  get evictions(): number {
    return this.#evictions;
  }

  content(): SlotState[] {
    return this.#entries.flatMap(({ digest, bytes, users }, slot) =>
      digest === undefined ? [] : { slot, digest, bytes, users, isPinned: this.#pinned.has(digest) },
    );
  }

  find(digest: Digest): number | undefined {
    const slot = this.#entries.findIndex((entry) => entry.digest === digest);
    return slot === -1 ? undefined : slot;
  }

  /** Keeps these in their slots, once they are there, in place of those pinned before. */
  pin(digests: Iterable<Digest>): void {
    this.#pinned = new Set(digests);
  }

  /** Whether these experts could be in slots together, if nobody used any. */
  canHold(digests: readonly Digest[]): boolean {
    const others = [...this.#pinned].filter((digest) => !digests.includes(digest));
    return others.length + digests.length <= this.size;
  }

  /**
   * Takes a slot for each expert (all different), or none: a request that held one expert while waiting for another could wait for ever.
   * `undefined` when too few slots are free.
   */
  acquire(experts: readonly SlotContent[]): Acquired[] | undefined {
    const present = experts.map(({ digest }) => this.find(digest));
    const absent = present.filter((slot) => slot === undefined).length;
    const victims = this.#victims(new Set(experts.map(({ digest }) => digest)));
    if (absent > victims.length) return undefined;
    return experts.map(({ digest, bytes }, i) => {
      const slot = present[i] ?? this.#entries.indexOf(victims.shift() ?? this.#missing());
      const entry = this.#entry(slot);
      const isNew = entry.digest !== digest;
      if (isNew && entry.digest !== undefined) this.#evictions++;
      entry.digest = digest;
      entry.bytes = bytes;
      entry.users++;
      entry.lastUse = ++this.#clock;
      return { slot, isNew };
    });
  }

  /** Counts another user of a slot: one that is being filled is nobody else's, even when all who asked for it have left. */
  hold(slot: number): void {
    this.#entry(slot).users++;
  }

  users(slot: number): number {
    return this.#entry(slot).users;
  }

  release(slot: number): void {
    const entry = this.#entry(slot);
    if (entry.users === 0) throw new Error(`slot ${slot} is released more often than it was acquired`);
    entry.users--;
  }

  /** Forgets what a slot holds. Its users still release it; who asks for the expert from now on gets another. */
  invalidate(slot: number): void {
    this.#entry(slot).digest = undefined;
  }

  #entry(slot: number): Entry {
    return this.#entries[slot] ?? this.#missing(slot);
  }

  #missing(slot?: number): never {
    throw new RangeError(`slot ${slot} does not exist; there are ${this.#entries.length}`);
  }

  #isFree({ users, digest }: Entry): boolean {
    return users === 0 && (digest === undefined || !this.#pinned.has(digest));
  }

  /** Slots that may be taken, the next first; none of an expert in `kept`. */
  #victims(kept: ReadonlySet<Digest>): Entry[] {
    const worth = ({ digest, bytes }: Entry) => (digest === undefined ? -1 : this.#demand(digest) * bytes);
    return this.#entries
      .filter((entry) => this.#isFree(entry) && (entry.digest === undefined || !kept.has(entry.digest)))
      .map((entry) => ({ entry, worth: worth(entry) }))
      .sort((a, b) => a.worth - b.worth || a.entry.lastUse - b.entry.lastUse)
      .map(({ entry }) => entry);
  }
}
