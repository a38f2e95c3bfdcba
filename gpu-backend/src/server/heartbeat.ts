/**
 * What this region tells about itself.
 */
import type { Heartbeat } from '@signpost/contracts';
import type { EngineClient } from '../runner/engine-client.ts';

export class Heartbeats {
  readonly #region: string;
  readonly #engine: EngineClient;
  readonly #isDraining: () => boolean;

  constructor(region: string, engine: EngineClient, isDraining: () => boolean) {
    this.#region = region;
    this.#engine = engine;
    this.#isDraining = isDraining;
  }

  async current(): Promise<Heartbeat> {
    const stats = await this.#engine.stats();
    return {
      region: this.#region,
      sentAt: Date.now(),
      base: this.#engine.facts.base,
      running: stats.running,
      waiting: stats.waiting,
      kvBlocksFree: stats.kvBlocksFree,
      kvBlocks: stats.kvBlocks,
      slots: stats.slots,
      slotsFree: stats.slotsFree,
      experts: { device: [...stats.resident], host: [], loading: [...stats.loading] },
      pageInBytesPerSecond: null,
      draining: this.#isDraining(),
    };
  }
}
