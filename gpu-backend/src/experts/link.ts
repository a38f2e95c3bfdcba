/**
 * One link shared by several loads: as many bytes for each while several want some, so that a large expert, whose chunks are larger, doesn't hold up a small
 * one (start-time fair queueing: Goyal, Vin and Cheng 1996).
 *
 * As many at once as fill the link, and no more: reads beyond that only wait in each other's way, and a file's first bytes, with which a region begins to
 * compute, come no sooner than those behind them. The measure is that of TCP Vegas (Brakmo and Peterson, 1995): how much longer reads take than when
 * they don't wait for each other says how many of them do.
 *
 * Reads begin one after the other, about as fast as the link has been seen to carry them (BBR's pacing: Cardwell et al. 2016). Those begun together
 * share it and end together: the first, which has the first layers, as late as the last, and then nothing is under way for a round trip.
 */
import type { ObjectStore, ReadOptions } from '@signpost/store';

/** Reads at once before anything is known of the link, and the fewest ever. */
const FEWEST_READS = 2;
/** Reads that wait for others: with fewer the link may have room for another, with more there is one too many. */
const WAITING_READS = { fewest: 1, most: 2 };
/** Reads that take so much longer than the shortest don't delay a file's first bytes by anything that counts. */
const NEGLIGIBLE_MS = 30;
/** What the shortest duration grows by with each read, so that one that no longer can be had is forgotten. */
const FORGETTING = 1.005;
/** What a read's rate counts in the mean of those of late, where it is higher and where it is lower. */
const RATE_SHARE = { higher: 1 / 2, lower: 1 / 8 };
/**
 * How much faster reads begin than the link was seen to carry them, so that it is seen when it carries more: a link whose measure isn't known is tried sooner. Of one
 * that is, each share beyond its rate would come off the first read's, by which a region begins to compute.
 */
const PACE_GAIN = { fresh: 2, known: 1.05 };
/** Between two reads: shorter ones a timer can't make, and longer ones would be a bad time's, such as a store's that answers at the sixth try. */
const PAUSE_MS = { shortest: 1, longest: 250 };

export interface Clock {
  /** Milliseconds; doesn't go back. */
  readonly now: () => number;
  readonly after: (ms: number, then: () => void) => void;
}

const CLOCK: Clock = { now: () => performance.now(), after: (ms, then) => void setTimeout(then, ms) };

interface Place {
  readonly bytes: number;
  readonly begin: () => void;
}

interface Share {
  /** Of its reads, but for the last one. */
  readBytes: number | undefined;
  /** Reads that wait for their turn, oldest first. */
  readonly queue: Place[];
  /** Bytes, of all that the link serves in turn, before its next read: the fewest are next. */
  tag: number;
}

export class FairLink {
  readonly #store: ObjectStore;
  readonly #most: number;
  readonly #clock: Clock;
  /** Those with reads in wait; of two whose turn it is, the first. */
  readonly #waiting: Share[] = [];
  #open = 0;
  /** The tag of the read begun last: who comes now is not ahead of it. */
  #tag = 0;
  /** Reads at once; what is over a whole number counts for the next change. */
  #limit: number;
  /** Until reads wait for each other the first time, more are tried sooner. */
  #isFresh = true;
  /** The shortest duration of late of a read of so many bytes. */
  readonly #shortest = new Map<number, number>();
  /** What all reads together got of late, while there were several; 0 before the first. */
  #bytesPerMs = 0;
  /** Bytes that have come in, of all reads. */
  #received = 0;
  /** The read begun last: when it was due, and its bytes. */
  #last = { dueMs: 0, bytes: 0 };
  #isPausing = false;

  /** @param most reads at once. */
  constructor(store: ObjectStore, most: number, clock: Clock = CLOCK) {
    this.#store = store;
    this.#most = most;
    this.#limit = Math.min(FEWEST_READS, most);
    this.#clock = clock;
  }

  /** Reads that it now has under way at once. */
  get limit(): number {
    return Math.floor(this.#limit);
  }

  /** The store as one load sees it. */
  share(): ObjectStore {
    const store = this.#store;
    const share: Share = { queue: [], tag: 0, readBytes: undefined };
    return {
      url: store.url,
      head: (key, options) => store.head(key, options),
      read: async (key, options: ReadOptions = {}) => {
        await this.#enter(share, options);
        const { range, parts } = options;
        const began = { atMs: this.#clock.now(), open: this.#open, received: this.#received };
        const take = (part: Uint8Array, at: number) => {
          this.#received += part.byteLength;
          parts?.take(part, at);
        };
        try {
          const stored = await store.read(
            key,
            parts === undefined ? options : { ...options, parts: { ...parts, take } },
          );
          this.#received += stored.data.byteLength;
          const bytes = range === undefined ? stored.data.byteLength : range.end - range.start;
          share.readBytes ??= bytes;
          if (bytes === share.readBytes) this.#learn(bytes, began);
          return stored;
        } finally {
          this.#open--;
          this.#serve();
        }
      },
      write: (key, data, condition) => store.write(key, data, condition),
      list: (prefix) => store.list(prefix),
      delete: (key) => store.delete(key),
      sweep: (before) => store.sweep(before),
    };
  }

  #enter(share: Share, { range, signal }: ReadOptions): Promise<void> {
    return new Promise((resolve, reject) => {
      const begin = () => {
        signal?.removeEventListener('abort', leave);
        this.#pace(place.bytes);
        this.#open++;
        resolve();
      };
      // What has no range is small: it counts as a byte.
      const place = { bytes: range === undefined ? 1 : range.end - range.start, begin };
      const leave = () => {
        share.queue.splice(share.queue.indexOf(place), 1);
        if (share.queue.length === 0) this.#waiting.splice(this.#waiting.indexOf(share), 1);
        reject(signal?.reason);
      };
      if (signal?.aborted === true) return reject(signal.reason);
      signal?.addEventListener('abort', leave, { once: true });
      if (share.queue.push(place) === 1) {
        share.tag = Math.max(share.tag, this.#tag);
        this.#waiting.push(share);
      }
      this.#serve();
    });
  }

  /** A read of so many bytes begins. */
  #pace(bytes: number): void {
    const now = this.#clock.now();
    // Timers are late: the next read makes up for it, but not for when there was nothing to read.
    const earliest = this.#open === 0 ? now : now - this.#pauseMs(bytes);
    this.#last = { dueMs: Math.max(this.#nextMs, earliest), bytes };
  }

  /** When the next read may begin, as far as is known now. */
  get #nextMs(): number {
    return this.#last.dueMs + this.#pauseMs(this.#last.bytes);
  }

  #pauseMs(bytes: number): number {
    const gain = this.#isFresh ? PACE_GAIN.fresh : PACE_GAIN.known;
    return this.#bytesPerMs === 0 ? 0 : Math.min(PAUSE_MS.longest, bytes / (gain * this.#bytesPerMs));
  }

  /** Whether the next read must wait, though the limit has room for it; it is seen to when it needn't. */
  #isTooSoon(): boolean {
    const pauseMs = this.#nextMs - this.#clock.now();
    if (pauseMs < PAUSE_MS.shortest) return false;
    if (!this.#isPausing) {
      this.#isPausing = true;
      this.#clock.after(pauseMs, () => {
        this.#isPausing = false;
        this.#serve();
      });
    }
    return true;
  }

  /** Of a read that has come in, with how things stood when it began. */
  #learn(bytes: number, began: { readonly atMs: number; readonly open: number; readonly received: number }): void {
    const ms = this.#clock.now() - began.atMs;
    const rate = (this.#received - began.received) / ms;
    // The first of several waited for an idle link, which says nothing but that it carries no less.
    if (this.#bytesPerMs === 0) this.#bytesPerMs = rate;
    else if (rate > this.#bytesPerMs) this.#bytesPerMs += RATE_SHARE.higher * (rate - this.#bytesPerMs);
    else if (began.open > 1) this.#bytesPerMs += RATE_SHARE.lower * (rate - this.#bytesPerMs);
    const shortest = Math.min(ms, (this.#shortest.get(bytes) ?? ms) * FORGETTING);
    this.#shortest.set(bytes, shortest);
    const waiting = ms - shortest < NEGLIGIBLE_MS ? 0 : this.#limit * (1 - shortest / ms);
    if (waiting >= WAITING_READS.fewest) this.#isFresh = false;
    // One more or less by the time that each has been through.
    const step = this.#isFresh ? 1 : 1 / this.#limit;
    if (waiting < WAITING_READS.fewest) this.#limit = Math.min(this.#most, this.#limit + step);
    else if (waiting > WAITING_READS.most)
      this.#limit = Math.max(Math.min(FEWEST_READS, this.#most), this.#limit - step);
  }

  #serve(): void {
    while (this.#waiting.length > 0 && this.#open < this.limit && !this.#isTooSoon()) {
      const tag = Math.min(...this.#waiting.map((share) => share.tag));
      const index = this.#waiting.findIndex((share) => share.tag === tag);
      const [share] = index === -1 ? [] : this.#waiting.splice(index, 1);
      const place = share?.queue.shift();
      if (share === undefined || place === undefined) return;
      this.#tag = tag;
      share.tag += place.bytes;
      if (share.queue.length > 0) this.#waiting.push(share);
      place.begin();
    }
  }
}
