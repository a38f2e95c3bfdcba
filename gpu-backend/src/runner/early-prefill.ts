/**
 * Prompts computed while their expert is still on its way: each layer as soon as it is in, up to the first token's logits. With them the sequence goes
 * to the scheduler.
 *
 * These are steps of their own, which wait for the link; the scheduler's steps know nothing of them and never wait for one. On the device they take
 * turns by layers.
 */
import type { BlockManager } from '../schedule/block-manager.ts';
import type { Sequence } from '../schedule/sequence.ts';
import { StepBatchBuilder } from '../schedule/step-batch.ts';
import type { Chunk } from '../schedule/step-budget.ts';
import type { StepModel } from './engine-loop.ts';

/** Chunks under way at once, of all prompts: each has a residual stream of its own. The scheduler computes the rest of a longer prompt. */
export const MAX_CHUNKS = 16;

/** What was computed of a sequence; it holds blocks for all of its tokens, with `computed` of them filled, but not in the prefix cache yet. */
export interface EarlyRows {
  /** The last of them. */
  readonly chunk: Chunk;
  /** (1, logitWidth) of the sequence's last token; empty where the prompt is longer. */
  readonly logits: Float32Array;
}

export class EarlyPrefill {
  readonly #model: StepModel;
  readonly #blocks: BlockManager;
  readonly #maxStepTokens: number;
  #chunks = 0;
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
   * Computes a sequence that holds nothing yet; its experts are whole when this is done. Does nothing for a prompt whose tokens are to be scored, or where
   * the cache is short of blocks: those are for who can run. Never rejects: why a load failed the lease says, and what else goes wrong goes wrong
   * again in the sequence's own steps.
   *
   * @returns undefined where nothing was computed; the sequence holds nothing then.
   */
  async run(sequence: Sequence, leaves: AbortSignal): Promise<EarlyRows | undefined> {
    const isShort = 2 * Math.ceil(sequence.tokens.length / this.#blocks.blockTokens) > this.#blocks.free;
    if (sequence.isScoring || isShort || this.#chunks >= MAX_CHUNKS || !this.#blocks.admit(sequence)) return undefined;
    const chunks = this.#cut(sequence);
    this.#chunks += chunks.length;
    try {
      const batches = chunks.map((chunk) => new StepBatchBuilder().build([chunk]));
      const logits = await this.#model.forwardArriving(batches, AbortSignal.any([leaves, this.#yield.signal]));
      const chunk = chunks.at(-1);
      if (chunk === undefined) throw new Error('a prompt has at least one token to compute');
      sequence.computed = chunk.start + chunk.count;
      return { chunk, logits };
    } catch {
      this.#blocks.release(sequence);
      sequence.computed = 0;
      return undefined;
    } finally {
      this.#chunks -= chunks.length;
    }
  }

  #cut(sequence: Sequence): Chunk[] {
    const chunks: Chunk[] = [];
    const { length } = sequence.tokens;
    for (let start = sequence.computed; start < length && this.#chunks + chunks.length < MAX_CHUNKS; ) {
      const count = Math.min(this.#maxStepTokens, length - start);
      const logits = start + count === length ? 'last' : 'none';
      chunks.push({ sequence, start, count, kind: 'prefill', logits });
      start += count;
    }
    return chunks;
  }
}
