/**
 * The Durable Object that all heartbeats go to and every isolate reads: one for the fleet. Nothing is written down: a new one has heard of every
 * region two seconds later.
 */
import { DurableObject } from 'cloudflare:workers';
import type { Heartbeat } from '@signpost/contracts';
import { FleetRoll, type HeardBeat } from './roll.ts';

export class Fleet extends DurableObject {
  readonly #roll = new FleetRoll();

  hear(beat: Heartbeat): boolean {
    return this.#roll.hear(beat, Date.now());
  }

  current(): HeardBeat[] {
    return this.#roll.current(Date.now());
  }
}
