/**
 * Delta files read, and hashed, in a thread of their own: transfers go on while the engine computes, and the engine doesn't stop to hash.
 *
 * A thread that dies fails what it was reading; the next read starts another.
 */
import type { Worker } from 'node:worker_threads';
import type { ExpertVersion } from '@signpost/contracts';
import type { IntegrityCheck } from '@signpost/store';
import { startThread } from '../threads.ts';
import type { ReadingOptions } from './expert-reader.ts';

export interface FetchOptions {
  /** Store URL. */
  readonly store: string;
  /** The disk cache's folder; undefined for none. */
  readonly disk: string | undefined;
}

export type Place = keyof FetchOptions;

export type ToFetchThread =
  | { readonly kind: 'read'; readonly id: number; readonly place: Place; readonly version: ExpertVersion }
  | { readonly kind: 'abort'; readonly id: number };

export type FromFetchThread =
  | { readonly kind: 'chunk'; readonly id: number; readonly data: Uint8Array; readonly start: number }
  | { readonly kind: 'mismatch'; readonly id: number; readonly check: IntegrityCheck }
  | { readonly kind: 'done'; readonly id: number }
  | { readonly kind: 'failed'; readonly id: number; readonly message: string };

/**
 * Little objects that stand for what came off a socket: collected while they are few, they give their memory back while it is in the caches; by tens of megabytes, each load would
 * cost four full collections, and pages that the system must find anew.
 */
const YOUNG_GENERATION_MB = 2;

interface Read extends Pick<ReadingOptions, 'onChunk' | 'onMismatch'> {
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

export class FetchThread {
  readonly #options: FetchOptions;
  readonly #reads = new Map<number, Read>();
  #worker: Worker | undefined;
  #lastId = 0;

  /** Starts the thread, so that the first read needn't wait for it. */
  constructor(options: FetchOptions) {
    this.#options = options;
    this.#worker = this.#start();
  }

  /** As `ExpertReader`, of one of its places. */
  read(place: Place, version: ExpertVersion, { signal, onChunk, onMismatch }: ReadingOptions): Promise<void> {
    this.#worker ??= this.#start();
    const worker = this.#worker;
    const id = ++this.#lastId;
    return new Promise((resolve, reject) => {
      const leave = () => {
        this.#reads.delete(id);
        this.#send(worker, { kind: 'abort', id });
        reject(signal?.reason);
      };
      if (signal?.aborted === true) return reject(signal.reason);
      signal?.addEventListener('abort', leave, { once: true });
      const end = () => signal?.removeEventListener('abort', leave);
      this.#reads.set(id, {
        onChunk,
        onMismatch,
        resolve: () => {
          end();
          resolve();
        },
        reject: (error) => {
          end();
          reject(error);
        },
      });
      this.#send(worker, { kind: 'read', id, place, version });
    });
  }

  #send(worker: Worker, message: ToFetchThread): void {
    worker.postMessage(message);
  }

  #start(): Worker {
    const worker = startThread('fetch', this.#options, { maxYoungGenerationSizeMb: YOUNG_GENERATION_MB });
    let death = new Error('the thread that reads experts ended; try again');
    worker.on('message', (message: FromFetchThread) => this.#receive(message));
    worker.on('error', (error) => {
      death = error;
    });
    worker.on('exit', () => {
      this.#worker = undefined;
      for (const { reject } of this.#reads.values()) reject(death);
      this.#reads.clear();
    });
    // It ends with the thread that started it.
    worker.unref();
    return worker;
  }

  #receive(message: FromFetchThread): void {
    const read = this.#reads.get(message.id);
    // Left meanwhile.
    if (read === undefined) return;
    switch (message.kind) {
      case 'chunk':
        read.onChunk(message.data, message.start);
        return;
      case 'mismatch':
        read.onMismatch?.(message.check);
        return;
      case 'done':
        this.#reads.delete(message.id);
        read.resolve();
        return;
      case 'failed':
        this.#reads.delete(message.id);
        read.reject(new Error(message.message));
        return;
      default:
        message satisfies never;
    }
  }
}
