/**
 * A grammar along one answer: which tokens may come next.
 */
import { Problem } from '@signpost/contracts';
import type { TokenConstraint } from '../sampling/sampler.ts';
import type { Automaton, State } from './automaton.ts';
import type { VocabularyTree } from './vocabulary.ts';

export class GrammarConstraint implements TokenConstraint {
  readonly #automaton: Automaton;
  readonly #vocabulary: VocabularyTree;
  readonly #stopIds: readonly number[];
  readonly #mask: Uint32Array;
  #state: State;

  /** @param stopIds tokens that end the answer: allowed where the text is complete, and nowhere else. */
  constructor(automaton: Automaton, vocabulary: VocabularyTree, stopIds: readonly number[]) {
    this.#automaton = automaton;
    this.#vocabulary = vocabulary;
    this.#stopIds = stopIds;
    // An expert may end its answers with a token that it has added.
    this.#mask = new Uint32Array(Math.max(vocabulary.maskWords, ...stopIds.map((id) => (id >>> 5) + 1)));
    this.#state = automaton.start;
  }

  /** @throws Problem where no token of the vocabulary can go on. */
  allowed(): Uint32Array {
    const state = this.#state;
    state.mask ??= this.#vocabulary.mask(this.#automaton, state);
    const mask = this.#mask;
    mask.set(state.mask);
    for (const id of this.#stopIds) {
      const word = mask[id >>> 5] ?? 0;
      mask[id >>> 5] = state.isComplete ? word | (1 << (id & 31)) : word & ~(1 << (id & 31));
    }
    if (mask.every((word) => word === 0))
      throw new Problem('no token of this vocabulary can go on as the requested format demands');
    return mask;
  }

  /** @throws Problem for a token that the grammar doesn't allow here: of a resumed answer that was begun without it. */
  accept(token: number): void {
    let state: State | undefined = this.#state;
    const bytes = this.#vocabulary.bytesOf(token);
    for (const byte of bytes ?? []) state = state && this.#automaton.step(state, byte);
    if (bytes === undefined || state === undefined)
      throw new Problem(`token ${token} doesn't follow the requested format; the answer was not begun under it`);
    this.#state = state;
  }
}
