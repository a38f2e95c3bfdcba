/**
 * Fixed-size device slots for experts: which digest sits where, and who still uses it.
 *
 * Knows nothing of bytes or stores (see residency.ts). A slot in use is never taken; of the others the least recently used goes first.
 */
import type { Digest } from '@signpost/contracts';

interface Entry {
  digest: Digest | undefined;
  users: number;
  /** Rises with every use. */
  lastUse: number;
}

export interface Acquired {
  readonly slot: number;
  /** The digest wasn't there: the slot must be filled before it is used. */
  readonly isNew: boolean;
}

export class SlotTable {
  readonly #entries: Entry[];
  #clock = 0;

  constructor(slots: number) {
    this.#entries = Array.from({ length: slots }, () => ({ digest: undefined, users: 0, lastUse: 0 }));
  }

  get size(): number {
    return this.#entries.length;
  }

  /** Slots that nobody uses now. */
  get free(): number {
    return this.#entries.filter(({ users }) => users === 0).length;
  }

  digests(): Digest[] {
    return this.#entries.flatMap(({ digest }) => digest ?? []);
  }

  /**
   * Takes a slot for each digest (all different), or none: a request that held one expert while waiting for another could wait for ever.
   * `undefined` when too few slots are free.
   */
  acquire(digests: readonly Digest[]): Acquired[] | undefined {
    const absent = digests.filter((digest) => this.#find(digest) === undefined);
    const kept = new Set(digests);
    const evictable = this.#entries.filter(
      ({ users, digest }) => users === 0 && (digest === undefined || !kept.has(digest)),
    );
    if (absent.length > evictable.length) return undefined;
    return digests.map((digest) => {
      const present = this.#find(digest);
      const entry = present ?? this.#leastRecentlyUsed(kept);
      entry.digest = digest;
      entry.users++;
      entry.lastUse = ++this.#clock;
      return { slot: this.#entries.indexOf(entry), isNew: present === undefined };
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

  /** Forgets what a slot holds, because it couldn't be filled. Its users still release it. */
  invalidate(slot: number): void {
    this.#entry(slot).digest = undefined;
  }

  #entry(slot: number): Entry {
    const entry = this.#entries[slot];
    if (entry === undefined) throw new RangeError(`slot ${slot} does not exist; there are ${this.#entries.length}`);
    return entry;
  }

  #find(digest: Digest): Entry | undefined {
    return this.#entries.find((entry) => entry.digest === digest);
  }

  #leastRecentlyUsed(kept: ReadonlySet<Digest>): Entry {
    const free = this.#entries.filter(
      ({ users, digest }) => users === 0 && (digest === undefined || !kept.has(digest)),
    );
    const [first] = free.sort(
      (a, b) => Number(a.digest !== undefined) - Number(b.digest !== undefined) || a.lastUse - b.lastUse,
    );
    if (first === undefined) throw new Error('no slot is free');
    return first;
  }
}
