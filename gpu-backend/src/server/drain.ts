/**
 * Whether a region refuses new requests: while its operator says so, and for good when it is about to stop.
 */
import type { Draining } from './admin.ts';

export class DrainSwitch implements Draining {
  readonly #onChange: () => void;
  #bidden = false;
  #isStopping = false;

  constructor(onChange: () => void) {
    this.#onChange = onChange;
  }

  get isOn(): boolean {
    return this.#bidden || this.#isStopping;
  }

  set(isOn: boolean): void {
    this.#bidden = isOn;
    this.#onChange();
  }

  /** There is no way back. */
  stop(): void {
    this.#isStopping = true;
    this.#onChange();
  }
}
