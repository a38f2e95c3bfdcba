/**
 * The Durable Object that all heartbeats go to and every isolate reads: one for the fleet. Nothing is written down: a new one has heard of every
 * region two seconds later.
 */
import { DurableObject } from 'cloudflare:workers';
import type { Heartbeat } from '@signpost/contracts';
import { WAKE_EVERY_MS } from '../backends/waker.ts';
import { FleetRoll, type HeardBeat } from './roll.ts';

export class Fleet extends DurableObject {
  readonly #roll = new FleetRoll();

  hear(beat: Heartbeat): boolean {
    return this.#roll.hear(beat, Date.now());
  }

  mayWake(region: string): boolean {
    return this.#roll.mayWake(region, Date.now(), WAKE_EVERY_MS);
  }

  current(): HeardBeat[] {
    return this.#roll.current(Date.now());
  }
}
