/**
 * What is left of a step while it is put together: tokens, logit rows, experts.
 */
import type { Sequence } from './sequence.ts';

export interface StepLimits {
  /** Most rows of a step. */
  readonly maxStepTokens: number;
  /** Most rows of a step that logits may be asked for. */
  readonly maxLogitRows: number;
  /** Most distinct experts of a step: each costs the reading of its planes. A mixture of more has a step without other experts. */
  readonly maxStepExperts: number;
}

/** Tokens `start` … `start + count - 1` of one sequence. */
export interface Chunk {
  readonly sequence: Sequence;
  readonly start: number;
  readonly count: number;
  readonly kind: 'prefill' | 'decode';
  /** `last`: the chunk ends with the sequence's last token, and a new one is to be sampled. `all`: the prompt is scored, too. */
  readonly logits: 'none' | 'last' | 'all';
}

type Growing = { -readonly [K in keyof Chunk]: Chunk[K] };

export class StepBudget {
  readonly #chunks = new Map<Sequence, Growing>();
  readonly #experts = new Set<number>();
  readonly #maxExperts: number;
  #tokens: number;
  #logitRows: number;

  constructor({ maxStepTokens, maxLogitRows, maxStepExperts }: StepLimits) {
    this.#tokens = maxStepTokens;
    this.#logitRows = maxLogitRows;
    this.#maxExperts = maxStepExperts;
  }

  get chunks(): Chunk[] {
    return [...this.#chunks.values()];
  }

  get isFull(): boolean {
    return this.#tokens === 0 || this.#logitRows === 0;
  }

  has(sequence: Sequence): boolean {
    return this.#chunks.has(sequence);
  }

  /** Whether the step may read these slots, too. */
  fits(experts: readonly number[]): boolean {
    const added = experts.filter((slot) => !this.#experts.has(slot)).length;
    return added === 0 || this.#experts.size === 0 || this.#experts.size + added <= this.#maxExperts;
  }

  /** Most tokens of the sequence, up to `most`, that the step can still take. */
  room(sequence: Sequence, most: number): number {
    if (this.isFull) return 0;
    const count = Math.min(sequence.pending, this.#tokens, most);
    return this.#needsAllLogits(sequence) ? Math.min(count, this.#logitRows) : count;
  }

  /** Adds the sequence's next `count` tokens, which then count as computed. */
  take(sequence: Sequence, count: number, kind: Chunk['kind']): void {
    const logits = this.#needsAllLogits(sequence) ? 'all' : count === sequence.pending ? 'last' : 'none';
    const chunk = this.#chunks.get(sequence);
    if (chunk === undefined) this.#chunks.set(sequence, { sequence, start: sequence.computed, count, kind, logits });
    else {
      chunk.count += count;
      chunk.logits = logits;
    }
    sequence.computed += count;
    for (const slot of sequence.experts) this.#experts.add(slot);
    this.#tokens -= count;
    this.#logitRows -= logits === 'all' ? count : logits === 'last' ? 1 : 0;
  }

  #needsAllLogits(sequence: Sequence): boolean {
    const chunk = this.#chunks.get(sequence);
    return chunk === undefined ? sequence.isScoring : chunk.logits === 'all';
  }
}
