/**
 * Prompts computed while their expert is still on its way: layer `l` as soon as layer `l` is in. What comes of it goes to the prefix cache, where the
 * scheduler finds it when the expert is whole and the request becomes a sequence like any other.
 *
 * These are steps of their own, which wait for the link; the scheduler's steps know nothing of them and never wait for one. On the device they take
 * turns by layers.
 */
import { setImmediate as turn } from 'node:timers/promises';
import { abortable } from '@signpost/engine';
import type { Lease } from '../experts/residency.ts';
import type { BlockManager } from '../schedule/block-manager.ts';
import type { Sequence } from '../schedule/sequence.ts';
import { StepBatchBuilder } from '../schedule/step-batch.ts';
import type { StepModel } from './engine-loop.ts';

/** Each has activations of its own. */
const MAX_AT_ONCE = 4;
const NO_LOGITS = new Float32Array(0);

export class EarlyPrefill {
  readonly #model: StepModel;
  readonly #blocks: BlockManager;
  readonly #maxStepTokens: number;
  #running = 0;
  #yield = new AbortController();

  constructor(model: StepModel, blocks: BlockManager, maxStepTokens: number) {
    this.#model = model;
    this.#blocks = blocks;
    this.#maxStepTokens = maxStepTokens;
  }

  /** Ends what runs, so that the blocks it holds go to who can run. */
  yieldBlocks(): void {
    this.#yield.abort(new Error('its blocks are needed'));
    this.#yield = new AbortController();
  }

  /**
   * Computes what of the sequence's tokens others could share, then lets go of it. Does nothing where the cache is short of blocks: those are
   * for who can run. Never rejects: why a load failed the lease says, and what else goes wrong goes wrong again in the sequence's own steps.
   *
   * @param sequence one of its own, with the request's tokens.
   * @returns the tokens that the prefix cache had before; undefined where nothing was computed.
   */
  async run(sequence: Sequence, { whole }: Lease, leaves: AbortSignal): Promise<number | undefined> {
    const { blockTokens } = this.#blocks;
    const target = Math.floor(sequence.reusable / blockTokens) * blockTokens;
    const isShort = 2 * Math.ceil(sequence.tokens.length / blockTokens) > this.#blocks.free;
    if (target === 0 || isShort || this.#running >= MAX_AT_ONCE || !this.#blocks.admit(sequence)) return undefined;
    this.#running++;
    const signal = AbortSignal.any([leaves, this.#yield.signal]);
    const cached = sequence.computed;
    try {
      const batches = new StepBatchBuilder();
      while (sequence.computed < target) {
        const start = sequence.computed;
        const count = Math.min(this.#maxStepTokens, target - start);
        const batch = batches.build([{ sequence, start, count, kind: 'prefill', logits: 'none' }]);
        await this.#model.forward(batch, NO_LOGITS, signal);
        sequence.computed = start + count;
        await turn();
        signal.throwIfAborted();
      }
      // Before that its bytes are right piece by piece only.
      await abortable(whole, signal);
      this.#blocks.cache(sequence, cached);
      return cached;
    } catch {
      return undefined;
    } finally {
      this.#blocks.release(sequence);
      this.#running--;
    }
  }
}
