/**
 * How far a slot is filled, for steps that begin before it is whole: stage 0 is the embedding, `2l + 1` the attention of layer `l`, `2l + 2` the rest of that
 * layer. The last one is what follows, and needs the slot whole.
 */
import type { ModelParams } from './params.ts';

interface Waiter {
  readonly stage: number;
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

export class SlotFilling {
  /** By stage: how many of the file's parameters must be in; undefined while the file isn't known. */
  #needed: number[] | undefined;
  readonly #waiters = new Set<Waiter>();
  #loaded = 0;
  #isWhole = false;
  #failure: { readonly error: unknown } | undefined;

  /** Whether a stage's parameters are in. */
  has(stage: number): boolean {
    if (this.#isWhole) return true;
    return this.#needed !== undefined && this.#loaded >= (this.#needed[stage] ?? 0);
  }

  /** What a step waits for before a stage; undefined where nothing is missing. */
  ready(stage: number): Promise<void> | undefined {
    if (this.#failure !== undefined) return Promise.reject(this.#failure.error);
    if (this.has(stage)) return undefined;
    return new Promise((resolve, reject) => this.#waiters.add({ stage, resolve, reject }));
  }

  /** @param stages of the file's parameters, in its order: which should be the order of execution, but need not. */
  begin(stages: readonly number[], stageCount: number): void {
    const needed = (_: unknown, stage: number) => stages.findLastIndex((one) => one <= stage) + 1;
    this.#needed = [...Array.from({ length: stageCount - 1 }, needed), Number.POSITIVE_INFINITY];
    this.#wake();
  }

  /** The file's next parameter is in. */
  advance(): void {
    this.#loaded++;
    this.#wake();
  }

  /** The file is whole, and right. */
  finish(): void {
    this.#isWhole = true;
    this.#wake();
  }

  #wake(): void {
    for (const waiter of this.#waiters) {
      if (!this.has(waiter.stage)) continue;
      this.#waiters.delete(waiter);
      waiter.resolve();
    }
  }

  fail(error: unknown): void {
    this.#failure = { error };
    for (const { reject } of this.#waiters) reject(error);
    this.#waiters.clear();
  }
}

export function stageCount({ layers }: ModelParams): number {
  return 2 * layers.length + 2;
}

/** The stage at which a parameter is used first. */
export function stageOf({ embedding, layers, norm }: ModelParams, param: number): number {
  if (param === embedding) return 0;
  if (param >= norm) return 2 * layers.length + 1;
  const layer = layers.findLastIndex(({ inputNorm }) => inputNorm <= param);
  return 2 * layer + ((layers[layer]?.postNorm ?? param) <= param ? 2 : 1);
}
