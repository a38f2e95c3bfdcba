/**
 * Blocks of the KV cache: who holds which, and which can be shared. Knows names of contents (block-hash.ts), not the contents.
 *
 * Full blocks stay cached under their name when their sequence leaves, until they are needed: the least recently used goes first, of one
 * sequence the last block first, because a block is of use only with those before it.
 */
import { blockHashes } from './block-hash.ts';
import { FreeBlocks } from './free-blocks.ts';
import type { Sequence } from './sequence.ts';

export class BlockManager {
  readonly blocks: number;
  readonly blockTokens: number;
  readonly #free: FreeBlocks;
  /** Sequences that hold each block. */
  readonly #users: Int32Array;
  readonly #blockOf = new Map<string, number>();
  /** By block: the name it is cached under. */
  readonly #hashOf: (string | undefined)[];
  #queries = 0;
  #hits = 0;

  constructor(blocks: number, blockTokens: number) {
    this.blocks = blocks;
    this.blockTokens = blockTokens;
    this.#free = new FreeBlocks(blocks);
    this.#users = new Int32Array(blocks);
    this.#hashOf = new Array<string | undefined>(blocks).fill(undefined);
  }

  /** Blocks that no sequence holds, cached ones among them. */
  get free(): number {
    return this.#free.size;
  }

  /** Tokens that the whole cache holds. */
  get capacity(): number {
    return this.blocks * this.blockTokens;
  }

  /** Tokens of sequences that were admitted for the first time, and those of them that were cached. */
  get prefix(): { readonly queries: number; readonly hits: number } {
    return { queries: this.#queries, hits: this.#hits };
  }

  /**
   * Gives a sequence that holds nothing blocks for all its tokens, as many of them as possible with what it needs already in them: those
   * count as computed. False, and nothing taken, when too few are free.
   */
  admit(sequence: Sequence): boolean {
    const cached = this.#cachedPrefix(sequence);
    const wanted = Math.ceil(sequence.tokens.length / this.blockTokens);
    const taken = cached.filter((block) => this.#users[block] === 0).length;
    if (wanted - cached.length > this.#free.size - taken) return false;
    for (const block of cached) {
      if (this.#users[block] === 0) this.#free.delete(block);
      this.#hold(sequence, block);
    }
    sequence.computed = cached.length * this.blockTokens;
    this.allocate(sequence, sequence.tokens.length);
    if (sequence.cachedTokens === undefined) {
      sequence.cachedTokens = sequence.computed;
      this.#queries += sequence.tokens.length;
      this.#hits += sequence.computed;
    }
    return true;
  }

  canAllocate(sequence: Sequence, tokens: number): boolean {
    return this.#missing(sequence, tokens) <= this.#free.size;
  }

  /** The same for several at once. */
  canAllocateAll(wanted: readonly { readonly sequence: Sequence; readonly tokens: number }[]): boolean {
    return wanted.reduce((sum, { sequence, tokens }) => sum + this.#missing(sequence, tokens), 0) <= this.#free.size;
  }

  /** Gives the sequence blocks for its first `tokens` tokens. @throws RangeError when there are too few; ask `canAllocate` first. */
  allocate(sequence: Sequence, tokens: number): void {
    for (let missing = this.#missing(sequence, tokens); missing > 0; missing--) {
      const block = this.#free.take();
      this.#forget(block);
      this.#hold(sequence, block);
    }
  }

  /** Lets others share the sequence's blocks from `from` tokens on that are full: computed, or about to be with this step. */
  cache(sequence: Sequence, from: number): void {
    const first = Math.floor(from / this.blockTokens);
    const end = Math.floor(sequence.computed / this.blockTokens);
    if (first >= end) return;
    const hashes = blockHashes(sequence, this.blockTokens, sequence.computed);
    for (let index = first; index < end; index++) {
      const [block, hash] = [sequence.blockTable[index], hashes[index]];
      // Two may have computed the same side by side: the first one's is as good.
      if (block === undefined || hash === undefined || this.#blockOf.has(hash)) continue;
      this.#blockOf.set(hash, block);
      this.#hashOf[block] = hash;
    }
  }

  /** Takes back what `cache` said of the sequence from `from` tokens on, which were not computed after all. It may hold nothing any more. */
  uncache(sequence: Sequence, from: number): void {
    for (const hash of sequence.blockHashes.slice(Math.floor(from / this.blockTokens))) {
      const block = this.#blockOf.get(hash);
      if (block !== undefined) this.#forget(block);
    }
  }

  release(sequence: Sequence): void {
    for (const block of sequence.blockTable.splice(0).reverse()) {
      const users = (this.#users[block] ?? 0) - 1;
      this.#users[block] = users;
      if (users > 0) continue;
      if (this.#hashOf[block] === undefined) this.#free.prepend(block);
      else this.#free.append(block);
    }
  }

  /** Blocks of the sequence's first tokens that are cached, in order. */
  #cachedPrefix(sequence: Sequence): number[] {
    const cached: number[] = [];
    for (const hash of blockHashes(sequence, this.blockTokens, sequence.reusable)) {
      const block = this.#blockOf.get(hash);
      if (block === undefined || (cached.length + 1) * this.blockTokens > sequence.reusable) break;
      cached.push(block);
    }
    return cached;
  }

  #hold(sequence: Sequence, block: number): void {
    this.#users[block] = (this.#users[block] ?? 0) + 1;
    sequence.blockTable.push(block);
  }

  #forget(block: number): void {
    const hash = this.#hashOf[block];
    if (hash === undefined) return;
    this.#blockOf.delete(hash);
    this.#hashOf[block] = undefined;
  }

  #missing(sequence: Sequence, tokens: number): number {
    return Math.max(0, Math.ceil(tokens / this.blockTokens) - sequence.blockTable.length);
  }
}
