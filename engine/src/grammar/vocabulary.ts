/**
 * A vocabulary as a tree of bytes: which tokens may follow is found by walking the tree and a grammar together, so that a byte that isn't allowed
 * rules out all tokens that begin with it at once.
 */
import type { Automaton, State } from './automaton.ts';

export class VocabularyTree {
  /** Words of a token mask. */
  readonly maskWords: number;
  readonly #bytes: readonly (Uint8Array | undefined)[];
  // The tree in depth-first order.
  readonly #byte: Uint8Array; // (nodes)
  readonly #depth: Uint16Array; // (nodes)
  /** Node after the ones below it. */
  readonly #after: Int32Array; // (nodes)
  /** Tokens that end at node n: `#ending[#endingStart[n] …]`. */
  readonly #endingStart: Int32Array; // (nodes + 1)
  readonly #ending: Int32Array;

  /**
   * @param bytes each token's bytes; undefined for those that are no text.
   * @param size tokens that have logits.
   */
  constructor(bytes: readonly (Uint8Array | undefined)[], size: number) {
    this.#bytes = bytes;
    this.maskWords = Math.ceil(size / 32);
    const order = [...bytes.keys()]
      .filter((id) => id < size && (bytes[id]?.length ?? 0) > 0)
      .sort((a, b) => compare(bytes[a], bytes[b]));
    const nodes: { byte: number; depth: number; tokens: number[] }[] = [];
    let path: Uint8Array = new Uint8Array(0);
    for (const id of order) {
      const text = bytes[id] ?? path;
      let shared = 0;
      while (shared < path.length && shared < text.length && path[shared] === text[shared]) shared++;
      for (let depth = shared; depth < text.length; depth++) nodes.push({ byte: text[depth] ?? 0, depth, tokens: [] });
      nodes.at(-1)?.tokens.push(id);
      path = text;
    }
    this.#byte = Uint8Array.from(nodes, ({ byte }) => byte);
    this.#depth = Uint16Array.from(nodes, ({ depth }) => depth);
    this.#ending = Int32Array.from(nodes.flatMap(({ tokens }) => tokens));
    this.#endingStart = new Int32Array(nodes.length + 1);
    nodes.forEach(({ tokens }, n) => {
      this.#endingStart[n + 1] = (this.#endingStart[n] ?? 0) + tokens.length;
    });
    this.#after = new Int32Array(nodes.length).fill(nodes.length);
    const open: number[] = [];
    for (let n = 0; n < nodes.length; n++) {
      while (open.length > (this.#depth[n] ?? 0)) this.#after[open.pop() ?? 0] = n;
      open.push(n);
    }
  }

  bytesOf(token: number): Uint8Array | undefined {
    return this.#bytes[token];
  }

  /** Bit `id % 32` of word `id / 32` is set for each token that the grammar allows in this state. */
  mask(automaton: Automaton, state: State): Uint32Array {
    const mask = new Uint32Array(this.maskWords);
    const states: State[] = [state];
    for (let n = 0; n < this.#byte.length; ) {
      const depth = this.#depth[n] ?? 0;
      const next = automaton.step(states[depth] ?? state, this.#byte[n] ?? 0);
      if (next === undefined) {
        n = this.#after[n] ?? this.#byte.length;
        continue;
      }
      states[depth + 1] = next;
      for (let i = this.#endingStart[n] ?? 0; i < (this.#endingStart[n + 1] ?? 0); i++) {
        const id = this.#ending[i] ?? 0;
        mask[id >>> 5] = (mask[id >>> 5] ?? 0) | (1 << (id & 31));
      }
      n++;
    }
    return mask;
  }
}

function compare(a: Uint8Array = new Uint8Array(0), b: Uint8Array = new Uint8Array(0)): number {
  const shared = Math.min(a.length, b.length);
  for (let i = 0; i < shared; i++) {
    const difference = (a[i] ?? 0) - (b[i] ?? 0);
    if (difference !== 0) return difference;
  }
  return a.length - b.length;
}
