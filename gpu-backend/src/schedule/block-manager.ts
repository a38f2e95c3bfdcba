/**
 * Blocks of the KV cache: who has which. Knows nothing of what is in them.
 */
import type { Sequence } from './sequence.ts';

export class BlockManager {
  readonly blocks: number;
  readonly blockTokens: number;
  readonly #free: number[];

  constructor(blocks: number, blockTokens: number) {
    this.blocks = blocks;
    this.blockTokens = blockTokens;
    // Taken from the end: low numbers first.
    this.#free = Array.from({ length: blocks }, (_, i) => blocks - 1 - i);
  }

  get free(): number {
    return this.#free.length;
  }

  /** Tokens that the whole cache holds. */
  get capacity(): number {
    return this.blocks * this.blockTokens;
  }

  canAllocate(sequence: Sequence, tokens: number): boolean {
    return this.#missing(sequence, tokens) <= this.#free.length;
  }

  /** Gives the sequence blocks for its first `tokens` tokens. @throws Error when there are too few; ask `canAllocate` first. */
  allocate(sequence: Sequence, tokens: number): void {
    for (let missing = this.#missing(sequence, tokens); missing > 0; missing--) {
      const block = this.#free.pop();
      if (block === undefined) throw new Error(`no free block for sequence ${sequence.id}`);
      sequence.blockTable.push(block);
    }
  }

  release(sequence: Sequence): void {
    this.#free.push(...sequence.blockTable.splice(0).reverse());
  }

  #missing(sequence: Sequence, tokens: number): number {
    return Math.max(0, Math.ceil(tokens / this.blockTokens) - sequence.blockTable.length);
  }
}
