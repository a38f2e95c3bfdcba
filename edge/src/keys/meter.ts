/**
 * One key's counters: what it has used, what is under way, and whether one more request fits. No clock and no I/O of its own.
 *
 * - **Requests a minute**: a sliding window, in buckets of one second. A bucket counts until the whole of it is more than sixty seconds old, so that no sixty
 *   seconds ever hold more than the limit, at the price of at most one second's wait; what is kept doesn't grow with the limit.
 * - **Tokens a day**: a request reserves at its admission what it may come to, and is charged what it came to when it ends. It belongs to the UTC day of its
 *   admission. Charged and reserved together never exceed the limit.
 * - **Concurrency**: a lease for each answer, renewed while it runs. One that isn't renewed ends by itself, charged in full: whoever held it is lost, and with it
 *   the knowledge of what was used (C. Gray and D. Cheriton, "Leases", SOSP 1989).
 *
 * What is refused isn't counted.
 */
import type { Limits } from './record.ts';

export const WINDOW_MS = 60_000;
const BUCKET_MS = 1_000;
const DAY_MS = 86_400_000;
/** A slot is free again so long after its isolate was lost. */
export const LEASE_MS = 90_000;

/** Where the counters outlive the object's memory. Keys are `window`, `day`, and `lease:ID`. */
export interface MeterStore {
  list(): Iterable<readonly [string, unknown]>;
  put(key: string, value: unknown): void;
  delete(key: string): void;
}

/** How a key stands against its limits. */
export interface Standing {
  readonly requests?: { readonly limit: number; readonly remaining: number; readonly resetMs: number };
  readonly tokens?: { readonly limit: number; readonly remaining: number; readonly resetMs: number };
  readonly concurrency?: { readonly limit: number; readonly remaining: number };
}

export type Limit = 'requests' | 'concurrency' | 'tokens';

export type Verdict =
  | {
      readonly kind: 'admitted';
      /** Whether the request holds a lease, to be renewed and settled. */
      readonly isLeased: boolean;
      readonly standing: Standing;
    }
  | {
      readonly kind: 'limited';
      readonly by: Limit;
      /** When another try may do; undefined where no wait helps. */
      readonly retryAfterMs: number | undefined;
      readonly standing: Standing;
    };

interface Lease {
  readonly until: number;
  /** Reserved. */
  readonly tokens: number;
  readonly day: number;
}

/** Nobody knows when a running answer ends. */
const RUNNING_RETRY_MS = 1_000;

export class Meter {
  readonly #limits: Limits;
  readonly #store: MeterStore;
  /** Requests by the second in which they came, oldest first. */
  #window: [second: number, requests: number][] = [];
  #day = 0;
  /** Charged on that day. */
  #used = 0;
  /** All of one length, so that the first is always the first to end. */
  readonly #leases = new Map<string, Lease>();
  #latest = 0;

  constructor(limits: Limits, store: MeterStore) {
    this.#limits = limits;
    this.#store = store;
    const leases: [string, Lease][] = [];
    for (const [key, value] of store.list()) {
      if (key === 'window') this.#window = (value as [number, number][]).map(([second, n]) => [second, n]);
      else if (key === 'day') ({ day: this.#day, used: this.#used } = value as { day: number; used: number });
      else if (key.startsWith('lease:')) leases.push([key.slice('lease:'.length), value as Lease]);
    }
    for (const [id, lease] of leases.sort(([, a], [, b]) => a.until - b.until)) this.#leases.set(id, lease);
  }

  /**
   * Takes a request in where it fits.
   *
   * @param lease its id, new for each request; the same again is the same request, asked twice because the first answer was lost.
   * @param tokens the most that it may come to.
   */
  admit(lease: string, tokens: number, time: number): Verdict {
    const now = this.#advance(time);
    if (this.#leases.has(lease)) return { kind: 'admitted', isLeased: true, standing: this.#standing(now) };
    const { requestsPerMinute, tokensPerDay, concurrency } = this.#limits;
    const limited = (by: Limit, retryAfterMs: number | undefined): Verdict => {
      return { kind: 'limited', by, retryAfterMs, standing: this.#standing(now) };
    };
    if (requestsPerMinute !== undefined && this.#requests() >= requestsPerMinute)
      return limited('requests', this.#roomInMs(requestsPerMinute, now));
    if (concurrency !== undefined && this.#leases.size >= concurrency) return limited('concurrency', RUNNING_RETRY_MS);
    if (tokensPerDay !== undefined && this.#used + this.#reserved() + tokens > tokensPerDay) {
      if (tokens > tokensPerDay) return limited('tokens', undefined);
      return limited('tokens', this.#used + tokens > tokensPerDay ? untilMidnight(now) : RUNNING_RETRY_MS);
    }

    if (requestsPerMinute !== undefined) this.#count(now);
    const isLeased = tokensPerDay !== undefined || concurrency !== undefined;
    if (isLeased) this.#hold(lease, { until: now + LEASE_MS, tokens, day: this.#day });
    return { kind: 'admitted', isLeased, standing: this.#standing(now) };
  }

  /** Its answer still runs. */
  renew(id: string, time: number): void {
    const now = this.#advance(time);
    const lease = this.#leases.get(id);
    if (lease === undefined) return;
    this.#leases.delete(id);
    this.#hold(id, { ...lease, until: now + LEASE_MS });
  }

  /** Its answer has ended, and came to `tokens`. Told twice, or of a lease that has ended by itself, it changes nothing. */
  settle(id: string, tokens: number, time: number): void {
    this.#advance(time);
    this.#end(id, tokens);
  }

  standing(time: number): Standing {
    return this.#standing(this.#advance(time));
  }

  /** Moves on to `time`, or stays where it is if that is earlier: clocks may be set back. */
  #advance(time: number): number {
    const now = Math.max(time, this.#latest);
    this.#latest = now;
    const day = Math.floor(now / DAY_MS);
    if (day > this.#day) {
      this.#day = day;
      this.#used = 0;
    }
    for (const [id, { until, tokens }] of this.#leases) {
      if (until > now) break;
      this.#end(id, tokens);
    }
    while (this.#window[0] !== undefined && endOfCount(this.#window[0]) <= now) this.#window.shift();
    return now;
  }

  #hold(id: string, lease: Lease): void {
    this.#leases.set(id, lease);
    this.#store.put(`lease:${id}`, lease);
  }

  #end(id: string, tokens: number): void {
    const lease = this.#leases.get(id);
    if (lease === undefined) return;
    this.#leases.delete(id);
    this.#store.delete(`lease:${id}`);
    if (lease.day !== this.#day || this.#limits.tokensPerDay === undefined) return;
    this.#used += tokens;
    this.#store.put('day', { day: this.#day, used: this.#used });
  }

  #count(now: number): void {
    const second = Math.floor(now / BUCKET_MS);
    const last = this.#window.at(-1);
    if (last?.[0] === second) last[1]++;
    else this.#window.push([second, 1]);
    this.#store.put(
      'window',
      this.#window.map(([at, n]) => [at, n]),
    );
  }

  #requests(): number {
    return this.#window.reduce((sum, [, n]) => sum + n, 0);
  }

  #reserved(): number {
    let sum = 0;
    for (const { day, tokens } of this.#leases.values()) if (day === this.#day) sum += tokens;
    return sum;
  }

  /** Until so many have left the window that one more fits. */
  #roomInMs(limit: number, now: number): number {
    let left = this.#requests();
    for (const bucket of this.#window) {
      left -= bucket[1];
      if (left < limit) return endOfCount(bucket) - now;
    }
    return 0;
  }

  #standing(now: number): Standing {
    const { requestsPerMinute, tokensPerDay, concurrency } = this.#limits;
    const newest = this.#window.at(-1);
    return {
      ...(requestsPerMinute === undefined
        ? {}
        : {
            requests: {
              limit: requestsPerMinute,
              remaining: Math.max(0, requestsPerMinute - this.#requests()),
              resetMs: newest === undefined ? 0 : endOfCount(newest) - now,
            },
          }),
      ...(tokensPerDay === undefined
        ? {}
        : {
            tokens: {
              limit: tokensPerDay,
              remaining: Math.max(0, tokensPerDay - this.#used - this.#reserved()),
              resetMs: untilMidnight(now),
            },
          }),
      ...(concurrency === undefined
        ? {}
        : { concurrency: { limit: concurrency, remaining: Math.max(0, concurrency - this.#leases.size) } }),
    };
  }
}

/** When none of a bucket's requests can be within the last sixty seconds any more. */
function endOfCount([second]: readonly [number, number]): number {
  return (second + 1) * BUCKET_MS + WINDOW_MS;
}

function untilMidnight(now: number): number {
  return DAY_MS - (now % DAY_MS);
}
