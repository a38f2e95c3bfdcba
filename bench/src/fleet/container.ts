/**
 * A region's container, as far as the time to a first token goes: a queue of prompts, slots for experts, and a link to the store.
 *
 * A stand-in for gpu-backend with its arithmetic, not its code: prompts are computed in the order in which they come, page-ins follow each other over the link, and
 * overlap with everything but the last layer of the prompt that waits for them.
 */
import type { Digest, Heartbeat } from '@signpost/contracts';

/** Whoever would wait longer is sent away. */
export const LONGEST_WAIT_MS = 30_000;

export interface ContainerSize {
  readonly slots: number;
  /** Experts in host memory, slots included. */
  readonly hosts: number;
  readonly expertBytes: number;
  readonly prefillTokensPerSecond: number;
  readonly storeBytesPerSecond: number;
  readonly hostBytesPerSecond: number;
}

export class Container {
  readonly #name: string;
  readonly #size: ContainerSize;
  /** Least recently used first: expert → when it is in its slot. */
  readonly #slots = new Map<number, number>();
  readonly #hosts = new Set<number>();
  #prefillFreeAt = 0;
  #linkFreeAt = 0;
  /** Read from the store. */
  pagedInBytes = 0;

  constructor(name: string, size: ContainerSize) {
    this.#name = name;
    this.#size = size;
  }

  /** A request comes in at `at`. @returns when its first token is there, in milliseconds; undefined where it is refused */
  serve(expert: number, promptTokens: number, at: number): number | undefined {
    if (Math.max(this.#prefillFreeAt, this.#linkFreeAt) - at > LONGEST_WAIT_MS) return undefined;
    const readyAt = this.#bringIn(expert, at);
    const begins = Math.max(at, this.#prefillFreeAt);
    const prefilled = begins + (1_000 * promptTokens) / this.#size.prefillTokensPerSecond;
    this.#prefillFreeAt = prefilled;
    return Math.max(prefilled, readyAt);
  }

  #bringIn(expert: number, at: number): number {
    const { slots, hosts, expertBytes, hostBytesPerSecond, storeBytesPerSecond } = this.#size;
    const there = this.#slots.get(expert);
    this.#slots.delete(expert);
    if (there !== undefined) {
      this.#slots.set(expert, there);
      return there;
    }
    let readyAt: number;
    if (this.#hosts.delete(expert)) readyAt = at + (1_000 * expertBytes) / hostBytesPerSecond;
    else {
      readyAt = Math.max(at, this.#linkFreeAt) + (1_000 * expertBytes) / storeBytesPerSecond;
      this.#linkFreeAt = readyAt;
      this.pagedInBytes += expertBytes;
    }
    this.#hosts.add(expert);
    this.#slots.set(expert, readyAt);
    evictTo(this.#slots, slots);
    evictTo(this.#hosts, hosts);
    return readyAt;
  }

  heartbeat(at: number): Heartbeat {
    const { prefillTokensPerSecond, storeBytesPerSecond: store, hostBytesPerSecond: host, slots } = this.#size;
    const device = [...this.#slots];
    return {
      region: this.#name,
      replica: this.#name,
      sentAt: at,
      base: digestOf(0),
      running: 0,
      waiting: 0,
      queuedTokens: Math.round((Math.max(0, this.#prefillFreeAt - at) * prefillTokensPerSecond) / 1_000),
      prefillTokensPerSecond,
      kvBlocks: 1,
      kvBlocksFree: 1,
      slots,
      slotsFree: slots - device.length,
      experts: {
        device: device.flatMap(([expert, readyAt]) => (readyAt <= at ? digestOf(expert) : [])),
        host: [...this.#hosts].map(digestOf),
        loading: device.flatMap(([expert, readyAt]) => (readyAt > at ? digestOf(expert) : [])),
      },
      pageInBytesPerSecond: { store, host },
      draining: false,
    };
  }
}

/** Of the first that were put in. */
function evictTo(entries: Map<number, unknown> | Set<number>, size: number): void {
  for (const key of entries.keys()) {
    if (entries.size <= size) return;
    entries.delete(key);
  }
}

export function digestOf(expert: number): Digest {
  return expert.toString(16).padStart(64, '0') as Digest;
}
