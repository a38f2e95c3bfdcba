/**
 * Blocks that nobody holds, in the order in which they are to be taken: a doubly linked list in two arrays, so that one is taken out from
 * the middle (a cached block that is asked for again) as cheaply as from the front.
 */
export class FreeBlocks {
  /** Index `blocks` is the list's head and tail. */
  readonly #next: Int32Array;
  readonly #previous: Int32Array;
  readonly #end: number;
  #size = 0;

  /** Holds blocks 0 … `blocks - 1`, low numbers first. */
  constructor(blocks: number) {
    this.#end = blocks;
    this.#next = new Int32Array(blocks + 1).fill(blocks);
    this.#previous = new Int32Array(blocks + 1).fill(blocks);
    for (let block = 0; block < blocks; block++) this.append(block);
  }

  get size(): number {
    return this.#size;
  }

  /** Takes the first. @throws RangeError when there is none. */
  take(): number {
    const first = this.#at(this.#next, this.#end);
    if (first === this.#end) throw new RangeError('no block is free');
    this.delete(first);
    return first;
  }

  /** The block must be in the list. */
  delete(block: number): void {
    const [before, after] = [this.#at(this.#previous, block), this.#at(this.#next, block)];
    this.#next[before] = after;
    this.#previous[after] = before;
    this.#size--;
  }

  /** To be taken last. */
  append(block: number): void {
    this.#insert(block, this.#at(this.#previous, this.#end));
  }

  /** To be taken first. */
  prepend(block: number): void {
    this.#insert(block, this.#end);
  }

  #insert(block: number, before: number): void {
    const after = this.#at(this.#next, before);
    this.#next[before] = block;
    this.#previous[after] = block;
    this.#previous[block] = before;
    this.#next[block] = after;
    this.#size++;
  }

  #at(links: Int32Array, block: number): number {
    const link = links[block];
    if (link === undefined) throw new RangeError(`block ${block} does not exist; there are ${this.#end}`);
    return link;
  }
}
