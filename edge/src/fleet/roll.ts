/**
 * The latest heartbeat of each container: what a region said last, for as long as it counts. No I/O.
 */
import { HEARTBEAT_SILENCE_MS, type Heartbeat } from '@signpost/contracts';

/** A heartbeat, and when it came by the edge's clock (milliseconds since the epoch): regions' own clocks may differ. */
export interface HeardBeat {
  readonly beat: Heartbeat;
  readonly heardAt: number;
}

/** Whether its container is still taken to be as it said. */
export function counts({ heardAt }: HeardBeat, now: number): boolean {
  return now - heardAt <= HEARTBEAT_SILENCE_MS;
}

export class FleetRoll {
  readonly #beats = new Map<string, HeardBeat>();
  /** By region: when its hook was last called. */
  readonly #woken = new Map<string, number>();

  /** @returns false for one that is no newer than what its container said last: it was overtaken on the way, or somebody sent it again. */
  hear(beat: Heartbeat, now: number): boolean {
    this.#forget(now);
    const last = this.#beats.get(beat.replica);
    if (last !== undefined && beat.sentAt <= last.beat.sentAt) return false;
    this.#beats.set(beat.replica, { beat, heardAt: now });
    return true;
  }

  current(now: number): HeardBeat[] {
    this.#forget(now);
    return [...this.#beats.values()];
  }

  /** Whether the hook of a sleeping region is to be called: once in `everyMs`. */
  mayWake(region: string, now: number, everyMs: number): boolean {
    if (now - (this.#woken.get(region) ?? Number.NEGATIVE_INFINITY) < everyMs) return false;
    this.#woken.set(region, now);
    return true;
  }

  #forget(now: number): void {
    for (const [replica, heard] of this.#beats) if (!counts(heard, now)) this.#beats.delete(replica);
  }
}
