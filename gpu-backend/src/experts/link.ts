/**
 * One link shared by several loads: so many reads at once in all, given to the loads in turn, so that a large expert doesn't hold up a small one.
 */
import type { ObjectStore, ReadOptions } from '@signpost/store';

interface Share {
  /** Reads that wait for their turn, oldest first. */
  readonly queue: (() => void)[];
}

export class FairLink {
  readonly #store: ObjectStore;
  readonly #parallel: number;
  /** Those with reads in wait; whose turn is next stands first. */
  readonly #waiting: Share[] = [];
  #open = 0;

  /** @param parallel reads at once. */
  constructor(store: ObjectStore, parallel: number) {
    this.#store = store;
    this.#parallel = parallel;
  }

  /** The store as one load sees it. */
  share(): ObjectStore {
    const store = this.#store;
    const share: Share = { queue: [] };
    return {
      url: store.url,
      head: (key, options) => store.head(key, options),
      read: async (key, options: ReadOptions = {}) => {
        await this.#enter(share, options.signal);
        try {
          return await store.read(key, options);
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

  #enter(share: Share, signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve, reject) => {
      const begin = () => {
        signal?.removeEventListener('abort', leave);
        this.#open++;
        resolve();
      };
      const leave = () => {
        share.queue.splice(share.queue.indexOf(begin), 1);
        if (share.queue.length === 0) this.#waiting.splice(this.#waiting.indexOf(share), 1);
        reject(signal?.reason);
      };
      if (signal?.aborted === true) return reject(signal.reason);
      signal?.addEventListener('abort', leave, { once: true });
      if (share.queue.push(begin) === 1) this.#waiting.push(share);
      this.#serve();
    });
  }

  #serve(): void {
    while (this.#open < this.#parallel) {
      const share = this.#waiting.shift();
      const begin = share?.queue.shift();
      if (share === undefined || begin === undefined) return;
      if (share.queue.length > 0) this.#waiting.push(share);
      begin();
    }
  }
}
