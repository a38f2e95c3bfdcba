/**
 * Which rows the next step computes: decode rows of all running sequences first, then prefill chunks in order of arrival, under a budget of
 * tokens. Knows no device: it hands out chunks and takes sampled tokens back.
 *
 * A sequence comes here with its experts already in slots. When blocks run out the newest running sequence gives up its own and is computed
 * again later; what it generated stays.
 */
import type { BlockManager } from './block-manager.ts';
import type { Sequence } from './sequence.ts';

export interface SchedulerOptions {
  /** Most rows of a step. */
  readonly maxStepTokens: number;
  /** Most sequences that run at once; also the most decode rows of a step. */
  readonly maxSequences: number;
  /** Most rows of a step that logits may be asked for. */
  readonly maxLogitRows: number;
}

/** Tokens `sequence.computed` … `+ count - 1` of one sequence. */
export interface Chunk {
  readonly sequence: Sequence;
  readonly start: number;
  readonly count: number;
  /** `last`: the chunk ends with the sequence's last token, and a new one is to be sampled. `all`: the prompt is scored, too. */
  readonly logits: 'none' | 'last' | 'all';
}

export class Scheduler {
  readonly #options: SchedulerOptions;
  readonly #blocks: BlockManager;
  /** In order of arrival; preempted ones stand in front. */
  readonly #waiting: Sequence[] = [];
  /** In order of admission. */
  readonly #running: Sequence[] = [];

  constructor(blocks: BlockManager, options: SchedulerOptions) {
    if (options.maxLogitRows < options.maxSequences) throw new Error('every running sequence may need a logit row');
    this.#blocks = blocks;
    this.#options = options;
  }

  get running(): number {
    return this.#running.length;
  }

  get waiting(): number {
    return this.#waiting.length;
  }

  add(sequence: Sequence): void {
    this.#waiting.push(sequence);
  }

  /** Takes a sequence out, wherever it is, and frees its blocks. */
  remove(sequence: Sequence): void {
    for (const list of [this.#waiting, this.#running]) {
      const index = list.indexOf(sequence);
      if (index !== -1) list.splice(index, 1);
    }
    this.#blocks.release(sequence);
  }

  /** The next step's chunks, a sequence at most once; empty when there is nothing to do. Blocks for them are allocated. */
  schedule(): Chunk[] {
    const step = new StepBudget(this.#options);
    this.#scheduleDecodes(step);
    this.#schedulePrefills(step);
    this.#admit(step);
    return step.chunks;
  }

  /** After a step: the chunk is in the cache, and `token` was sampled where it ended the sequence. */
  advance(chunk: Chunk, token: number | undefined): void {
    const { sequence } = chunk;
    sequence.computed += chunk.count;
    if (token !== undefined) sequence.tokens.push(token);
    if (!sequence.isDecoding) return;
    // Takes turns where there are more decode rows than a step has tokens.
    const index = this.#running.indexOf(sequence);
    if (index !== -1 && this.#running.length > this.#options.maxStepTokens)
      this.#running.push(...this.#running.splice(index, 1));
  }

  #scheduleDecodes(step: StepBudget): void {
    for (const sequence of [...this.#running]) {
      if (!sequence.isDecoding || !this.#running.includes(sequence)) continue;
      if (!step.fits(sequence)) return;
      if (this.#makeRoom(sequence, sequence.tokens.length, step)) step.take(sequence, 1);
    }
  }

  #schedulePrefills(step: StepBudget): void {
    for (const sequence of [...this.#running]) {
      if (sequence.isDecoding || !this.#running.includes(sequence)) continue;
      if (!step.fits(sequence)) return;
      const count = step.chunk(sequence);
      if (this.#makeRoom(sequence, sequence.computed + count, step)) step.take(sequence, count);
    }
  }

  /** Starts waiting sequences while tokens, places and blocks last. First come, first served: none is overtaken by a shorter one. */
  #admit(step: StepBudget): void {
    for (;;) {
      const [sequence] = this.#waiting;
      if (sequence === undefined || this.#running.length >= this.#options.maxSequences || !step.fits(sequence)) return;
      const count = step.chunk(sequence);
      if (!this.#blocks.canAllocate(sequence, sequence.computed + count)) return;
      this.#blocks.allocate(sequence, sequence.computed + count);
      this.#waiting.shift();
      this.#running.push(sequence);
      step.take(sequence, count);
    }
  }

  /** Allocates blocks for a running sequence, preempting newer ones where needed. False when it had to give way itself. */
  #makeRoom(sequence: Sequence, tokens: number, step: StepBudget): boolean {
    while (!this.#blocks.canAllocate(sequence, tokens)) {
      const victim = this.#running.findLast((candidate) => !step.has(candidate)) ?? sequence;
      this.#preempt(victim);
      if (victim === sequence) return false;
    }
    this.#blocks.allocate(sequence, tokens);
    return true;
  }

  #preempt(sequence: Sequence): void {
    this.#running.splice(this.#running.indexOf(sequence), 1);
    this.#blocks.release(sequence);
    sequence.computed = 0;
    this.#waiting.unshift(sequence);
  }
}

/** What is left of a step while it is put together. */
class StepBudget {
  readonly chunks: Chunk[] = [];
  #tokens: number;
  #logitRows: number;

  constructor({ maxStepTokens, maxLogitRows }: SchedulerOptions) {
    this.#tokens = maxStepTokens;
    this.#logitRows = maxLogitRows;
  }

  fits(sequence: Sequence): boolean {
    return this.chunk(sequence) > 0;
  }

  /** Most tokens of the sequence that this step can still take. */
  chunk(sequence: Sequence): number {
    if (this.#logitRows === 0) return 0;
    const count = Math.min(sequence.pending, this.#tokens);
    return scores(sequence) ? Math.min(count, this.#logitRows) : count;
  }

  take(sequence: Sequence, count: number): void {
    const logits = scores(sequence) ? 'all' : count === sequence.pending ? 'last' : 'none';
    this.chunks.push({ sequence, start: sequence.computed, count, logits });
    this.#tokens -= count;
    this.#logitRows -= logits === 'all' ? count : logits === 'last' ? 1 : 0;
  }

  has(sequence: Sequence): boolean {
    return this.chunks.some((chunk) => chunk.sequence === sequence);
  }
}

/** Whether the rows now to be computed belong to a prompt whose tokens are scored. */
function scores(sequence: Sequence): boolean {
  return sequence.scoresPrompt && sequence.computed < sequence.promptLength;
}
