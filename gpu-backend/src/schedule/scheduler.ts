/**
 * Which rows the next step computes: a row of each answer under way, then prompts in chunks, as far as the step's tokens, experts and the
 * cache's blocks go. Knows no device: it hands out chunks, and sequences grow between two steps.
 *
 * A sequence comes here with its experts already in slots. Nobody is passed for ever (docs/engine.md has the bounds): answers take turns
 * where not all fit a step, prompts by fair-queue.ts, and whoever is first and can't be admitted closes the door to those behind. When
 * blocks run out the latest arrival gives up its own and is computed again later; what it generated stays.
 */
import type { BlockManager } from './block-manager.ts';
import { FairQueue, type Flow, type Tenant } from './fair-queue.ts';
import type { Sequence } from './sequence.ts';
import { type Chunk, StepBudget, type StepLimits } from './step-budget.ts';

export interface SchedulerOptions extends StepLimits {
  /** Most sequences that run at once; also the most decode rows of a step. */
  readonly maxSequences: number;
  /** Most tokens of an answer that are computed before others have their turn, where the device chooses them; 1 where it is left out. */
  readonly decodeSteps?: number;
}

/** Prompts of this many turns share a full step. */
const TURNS_PER_STEP = 4;

export class Scheduler {
  readonly #options: SchedulerOptions;
  readonly #blocks: BlockManager;
  readonly #prompts: FairQueue;
  /** Sequences that have blocks, in order of arrival. */
  readonly #running: Sequence[] = [];
  /** Those of them that decode; who waited longest for a row stands first. */
  #decoding: Sequence[] = [];
  #waiting = 0;
  #arrivals = 0;
  #preemptions = 0;
  /** A prompt's turn was put off for the sake of decode rows: the next step begins with it. */
  #promptsAreDue = false;
  /** Nobody is admitted any more in this step. */
  #isClosed = false;
  #isShortOfBlocks = false;

  constructor(blocks: BlockManager, options: SchedulerOptions) {
    if (options.maxLogitRows < options.maxSequences) throw new Error('every running sequence may need a logit row');
    this.#blocks = blocks;
    this.#options = options;
    this.#prompts = new FairQueue(turnTokens(options));
  }

  /** Whether somebody was not admitted to the last step, or had to give up their blocks, because there are too few. */
  get isShortOfBlocks(): boolean {
    return this.#isShortOfBlocks;
  }

  get maxStepTokens(): number {
    return this.#options.maxStepTokens;
  }

  get running(): number {
    return this.#running.length;
  }

  get waiting(): number {
    return this.#waiting;
  }

  /** How often a sequence had to give up its blocks. */
  get preemptions(): number {
    return this.#preemptions;
  }

  add(sequence: Sequence): void {
    sequence.arrival = this.#arrivals++;
    this.#waiting++;
    this.#prompts.add(sequence);
  }

  /**
   * Takes a sequence that was computed elsewhere: it holds blocks for all its tokens, `computed` of them filled, which others may share from now on. Where
   * there is no place that nobody waits for, it waits like any other. Whether there was one.
   */
  adopt(sequence: Sequence): boolean {
    this.#blocks.cache(sequence, 0);
    if (this.#running.length + this.#waiting >= this.#options.maxSequences) {
      this.#blocks.release(sequence);
      sequence.computed = 0;
      this.add(sequence);
      return false;
    }
    sequence.arrival = this.#arrivals++;
    this.#running.push(sequence);
    sequence.phase = sequence.pending > 0 ? 'prefill' : 'decode';
    if (sequence.phase === 'prefill') this.#prompts.add(sequence);
    else this.#decoding.push(sequence);
    return true;
  }

  /** Takes a sequence out, wherever it is, and frees its blocks. */
  remove(sequence: Sequence): void {
    if (sequence.phase === 'waiting') this.#waiting--;
    else removeFrom(this.#running, sequence);
    if (sequence.phase === 'decode') removeFrom(this.#decoding, sequence);
    else this.#prompts.delete(sequence);
    this.#blocks.release(sequence);
  }

  /** The next step's chunks, a sequence at most once; empty when there is nothing to do. Blocks for them are allocated. */
  schedule(): readonly Chunk[] {
    const step = new StepBudget(this.#options);
    this.#isClosed = false;
    this.#isShortOfBlocks = false;
    this.#growAnswers();
    const promptsFirst = this.#promptsAreDue;
    if (promptsFirst) this.#schedulePrompts(step, 1);
    this.#scheduleDecodes(step);
    const isPutOff = this.#schedulePrompts(step, Number.POSITIVE_INFINITY);
    this.#promptsAreDue = isPutOff && !promptsFirst;
    this.#fillUp(step);
    return step.chunks;
  }

  /**
   * How many tokens the answers of a step may go on by before the next one is put together, on a device that chooses them: as many as each still has to come, and as
   * there are blocks for, which they are given. One where anything but these answers has work to do, or waits.
   */
  reserve(chunks: readonly Chunk[]): number {
    const isAll = chunks.length === this.#running.length && this.#waiting === 0;
    if (!isAll || chunks.some(({ kind, logits }) => kind !== 'decode' || logits !== 'last')) return 1;
    const left = chunks.map(({ sequence: { maxTokens, generated } }) => maxTokens - generated);
    for (let count = Math.min(this.#options.decodeSteps ?? 1, ...left); count > 1; count--) {
      const sequences = chunks.map(({ sequence }) => ({ sequence, tokens: sequence.tokens.length + count - 1 }));
      if (!this.#blocks.canAllocateAll(sequences)) continue;
      for (const { sequence, tokens } of sequences) this.#blocks.allocate(sequence, tokens);
      return count;
    }
    return 1;
  }

  /** Says that a step has gone on by the answer's last token, too. */
  goOn(sequence: Sequence): void {
    const from = sequence.computed;
    sequence.computed++;
    this.#blocks.cache(sequence, from);
  }

  /** Says that a step could not be computed: what it was to put into the cache isn't there. Its sequences are to be removed. */
  abandon(chunks: readonly Chunk[]): void {
    for (const { sequence, start } of chunks) this.#blocks.uncache(sequence, start);
  }

  /** Gives each answer under way the block of its next row, in order of arrival; where there are too few, the latest arrivals give up theirs. */
  #growAnswers(): void {
    for (let i = 0; i < this.#running.length; i++) {
      const sequence = this.#running[i];
      if (sequence?.phase !== 'decode') continue;
      while (!this.#blocks.canAllocate(sequence, sequence.tokens.length)) {
        const latest: Sequence = this.#running.at(-1) ?? sequence;
        this.#preempt(latest);
        if (latest === sequence) return;
      }
      this.#blocks.allocate(sequence, sequence.tokens.length);
    }
  }

  #scheduleDecodes(step: StepBudget): void {
    for (const sequence of this.#decoding) {
      if (step.isFull) break;
      // Its prompt was completed in this very step, or its experts wait for the next one.
      if (step.has(sequence) || !step.fits(sequence.experts)) continue;
      this.#take(sequence, 1, 'decode', step);
      this.#prompts.charge(sequence);
    }
    const passed = this.#decoding.filter((sequence) => !step.has(sequence));
    if (passed.length > 0) this.#decoding = [...passed, ...this.#decoding.filter((sequence) => step.has(sequence))];
  }

  /** Gives tenants their turns, at most `turns` of them. Whether somebody's turn was put off that the next step can give. */
  #schedulePrompts(step: StepBudget, turns: number): boolean {
    const passed = new Set<Tenant>();
    let isPutOff = false;
    for (let turn = 0; turn < turns; ) {
      if (step.isFull) return this.#prompts.tenants.length > 0;
      const tenant = this.#prompts.tenants.find((candidate) => !passed.has(candidate));
      if (tenant === undefined) break;
      const outcome = this.#giveTurn(tenant, step);
      if (outcome === 'done') {
        turn++;
        continue;
      }
      passed.add(tenant);
      // Nobody takes the place or the blocks of who is before them.
      this.#isClosed = true;
      isPutOff ||= outcome === 'put off';
    }
    return isPutOff;
  }

  #giveTurn(tenant: Tenant, step: StepBudget): 'done' | 'put off' | 'no room' {
    for (const flow of tenant.flows) {
      if (!step.fits(flow.experts)) return 'put off';
      let sequence = this.#nextOf(flow);
      // Those behind a prompt that waits for room may have theirs.
      if (sequence === undefined) continue;
      this.#prompts.begin(tenant);
      while (sequence !== undefined && tenant.credit > 0) {
        if (step.isFull) return 'put off';
        const count = step.room(sequence, tenant.credit);
        tenant.credit -= count;
        this.#take(sequence, count, 'prefill', step);
        sequence = this.#nextOf(flow);
      }
      this.#prompts.end(tenant, flow);
      return 'done';
    }
    return 'no room';
  }

  /** The flow's first prompt that has room or can be given it. */
  #nextOf({ prompts }: Flow): Sequence | undefined {
    return prompts.find((prompt) => prompt.phase === 'prefill' || this.#admit(prompt));
  }

  /** What those whose turn it is can't use goes to prompts under way, out of turn. */
  #fillUp(step: StepBudget): void {
    if (step.isFull) return;
    const flows = this.#prompts.tenants.flatMap((tenant) => tenant.flows);
    for (const { experts, prompts } of flows) {
      for (const sequence of [...prompts]) {
        if (sequence.phase !== 'prefill' || !step.fits(experts)) continue;
        const count = step.room(sequence, Number.POSITIVE_INFINITY);
        if (count > 0) this.#take(sequence, count, 'prefill', step);
      }
    }
  }

  #take(sequence: Sequence, count: number, kind: Chunk['kind'], step: StepBudget): void {
    const start = sequence.computed;
    step.take(sequence, count, kind);
    this.#blocks.cache(sequence, start);
    if (sequence.phase !== 'prefill' || sequence.pending > 0) return;
    sequence.phase = 'decode';
    this.#prompts.delete(sequence);
    this.#decoding.push(sequence);
  }

  /** Starts a waiting sequence, if there are a place and blocks for all of its tokens. Else nobody is admitted before it. */
  #admit(sequence: Sequence): boolean {
    if (this.#isClosed) return false;
    const isFull = this.#running.length >= this.#options.maxSequences;
    if (isFull || !this.#blocks.admit(sequence)) {
      this.#isClosed = true;
      this.#isShortOfBlocks ||= !isFull;
      return false;
    }
    sequence.phase = 'prefill';
    this.#waiting--;
    const after = this.#running.findLastIndex(({ arrival }) => arrival < sequence.arrival);
    this.#running.splice(after + 1, 0, sequence);
    return true;
  }

  #preempt(sequence: Sequence): void {
    removeFrom(this.#running, sequence);
    if (sequence.phase === 'decode') {
      removeFrom(this.#decoding, sequence);
      this.#prompts.add(sequence);
    }
    sequence.phase = 'waiting';
    sequence.computed = 0;
    this.#blocks.release(sequence);
    this.#waiting++;
    this.#preemptions++;
    this.#isShortOfBlocks = true;
    // What it gave up is for those who ran short.
    this.#isClosed = true;
  }
}

/** Tokens of a turn: what a step that begins with one can always take. */
export function turnTokens({ maxStepTokens, maxLogitRows }: StepLimits): number {
  return Math.max(1, Math.min(Math.floor(maxStepTokens / TURNS_PER_STEP), maxLogitRows));
}

function removeFrom(list: Sequence[], sequence: Sequence): void {
  const index = list.indexOf(sequence);
  if (index !== -1) list.splice(index, 1);
}
