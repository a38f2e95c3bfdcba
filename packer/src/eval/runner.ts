/**
 * Many sequences on one resident model at once: each step takes decode rows and prefill chunks of several, whichever expert they ask for.
 *
 * For work that is all there at the start and whose order doesn't matter. Knows no text, no fairness and no preemption: a sequence is
 * begun once the cache has blocks for all of it. What a sequence gets doesn't depend on which others share its steps.
 */
import { setImmediate } from 'node:timers/promises';
import { Problem } from '@signpost/contracts';
import { argmax, type Checkpoint, logProbability, Model, type StepBatch } from '@signpost/engine';

/** Rows of one step: enough to be bound by arithmetic, not by reading weights. */
const MAX_ROWS = 512;
const MAX_SEQUENCES = 128;
const BLOCK_TOKENS = 16;
const KV_BYTES = 2 ** 30;
/** Logits are copied out in F32. */
const LOGITS_BYTES = 64 * 2 ** 20;

interface Sequence {
  /** No slot is the plain base. */
  readonly slot: number | undefined;
  /** Prompt, and what follows it as far as it is known. */
  readonly tokens: number[];
  readonly goal: Goal;
  readonly blocks: number;
  readonly blockTable: number[];
  /** Takes the scores, or the new tokens. */
  readonly end: (values: number[]) => void;
  readonly fail: (error: unknown) => void;
  /** Tokens in the cache. */
  computed: number;
}

type Goal =
  | { readonly kind: 'score'; readonly from: number; readonly scores: number[] }
  | {
      readonly kind: 'generate';
      readonly promptTokens: number;
      readonly maxTokens: number;
      readonly stopIds: ReadonlySet<number>;
    };

/** The next `count` tokens of a sequence; logits of the last `logits` of them. */
interface Chunk {
  readonly sequence: Sequence;
  readonly count: number;
  readonly logits: number;
}

/** A sequence that a model can't take: nothing to go on from, or too long. */
export class UnfitSequence extends Problem {}

export class BatchRunner {
  readonly model: Model;
  readonly #maxLogitRows: number;
  readonly #freeBlocks: number[];
  readonly #kvBlocks: number;
  readonly #signal: AbortSignal | undefined;
  #waiting: Sequence[] = [];
  #running: Sequence[] = [];
  #isRunning = false;

  private constructor(model: Model, maxLogitRows: number, kvBlocks: number, signal: AbortSignal | undefined) {
    this.model = model;
    this.#maxLogitRows = maxLogitRows;
    this.#kvBlocks = kvBlocks;
    this.#freeBlocks = Array.from({ length: kvBlocks }, (_, block) => block);
    this.#signal = signal;
  }

  /** Makes a checkpoint resident on the CPU, with room for `slots` experts. Once `signal` is aborted, work rejects with its reason. */
  static async load(checkpoint: Checkpoint, slots: number, signal?: AbortSignal): Promise<BatchRunner> {
    const { layers, kvHeads, headDim, maxPositions, vocabSize } = checkpoint.config;
    const blockBytes = layers * kvHeads * headDim * 2 * Float32Array.BYTES_PER_ELEMENT * BLOCK_TOKENS;
    const kvBlocks = Math.min(Math.ceil(KV_BYTES / blockBytes), MAX_SEQUENCES * Math.ceil(maxPositions / BLOCK_TOKENS));
    const logitRows = Math.floor(LOGITS_BYTES / (vocabSize * Float32Array.BYTES_PER_ELEMENT));
    const maxLogitRows = Math.min(MAX_ROWS, Math.max(1, logitRows));
    const model = await Model.load(checkpoint, {
      device: 'cpu',
      slots,
      kvBlocks,
      blockTokens: BLOCK_TOKENS,
      maxRows: MAX_ROWS,
      maxLogitRows,
    });
    return new BatchRunner(model, maxLogitRows, kvBlocks, signal);
  }

  /** Tokens that one sequence may have: the model's context, or what the cache holds. */
  get maxTokens(): number {
    return Math.min(this.model.config.maxPositions, this.#kvBlocks * BLOCK_TOKENS);
  }

  /**
   * Log-probability (natural) of each token of `continuation` after `context` and those before it.
   *
   * @throws UnfitSequence when there is no context, or the sequence is too long.
   */
  score(slot: number | undefined, context: readonly number[], continuation: readonly number[]): Promise<number[]> {
    return this.#add(slot, [...context, ...continuation], continuation.length, {
      kind: 'score',
      from: context.length - 1,
      scores: [],
    });
  }

  /**
   * The likeliest tokens after `prompt`, one by one, up to `maxTokens` or to one of `stopIds`, which is left out. The model's context ends them, too.
   *
   * @throws UnfitSequence when the prompt is empty or too long.
   */
  generate(
    slot: number | undefined,
    prompt: readonly number[],
    maxTokens: number,
    stopIds: ReadonlySet<number>,
  ): Promise<number[]> {
    const most = Math.min(maxTokens, this.maxTokens - prompt.length);
    return this.#add(slot, [...prompt], most, {
      kind: 'generate',
      promptTokens: prompt.length,
      maxTokens: most,
      stopIds,
    });
  }

  close(): void {
    this.model.close();
  }

  async #add(slot: number | undefined, tokens: number[], wanted: number, goal: Goal): Promise<number[]> {
    const context = goal.kind === 'score' ? goal.from + 1 : goal.promptTokens;
    const length = goal.kind === 'score' ? tokens.length : tokens.length + wanted;
    if (context === 0) throw new UnfitSequence('the prompt has no tokens; the model needs one to go on from');
    if (context >= this.maxTokens || length > this.maxTokens)
      throw new UnfitSequence(`${tokens.length} tokens are too long; here a sequence may have ${this.maxTokens}`);
    if (wanted === 0) return [];
    return new Promise((end, fail) => {
      const blocks = Math.ceil(length / BLOCK_TOKENS);
      this.#waiting.push({ slot, tokens, goal, blocks, blockTable: [], end, fail, computed: 0 });
      void this.#run();
    });
  }

  async #run(): Promise<void> {
    if (this.#isRunning) return;
    this.#isRunning = true;
    try {
      // A step keeps the thread busy: between two of them, work is taken and interrupts are heard.
      for (;;) {
        await setImmediate();
        this.#signal?.throwIfAborted();
        this.#admit();
        if (this.#running.length === 0) return;
        await this.#step();
      }
    } catch (error) {
      for (const { fail } of [...this.#running, ...this.#waiting]) fail(error);
      for (const sequence of this.#running) this.#release(sequence);
      this.#running = [];
      this.#waiting = [];
    } finally {
      this.#isRunning = false;
    }
  }

  #admit(): void {
    let admitted = 0;
    for (const sequence of this.#waiting) {
      if (this.#running.length >= MAX_SEQUENCES || sequence.blocks > this.#freeBlocks.length) break;
      sequence.blockTable.push(...this.#freeBlocks.splice(-sequence.blocks));
      this.#running.push(sequence);
      admitted++;
    }
    this.#waiting = this.#waiting.slice(admitted);
  }

  async #step(): Promise<void> {
    const chunks = this.#schedule();
    const logits = await this.model.forward(stepBatch(chunks));
    const width = logits.length / chunks.reduce((sum, chunk) => sum + chunk.logits, 0);
    let row = 0;
    for (const { sequence, count, logits: rows } of chunks) {
      sequence.computed += count;
      for (let i = 0; i < rows; i++, row++) {
        const position = sequence.computed - rows + i;
        this.#take(sequence, position, logits.subarray(row * width, (row + 1) * width));
      }
    }
    this.#running = this.#running.filter((sequence) => {
      const values = outcome(sequence);
      if (values === undefined) return true;
      this.#release(sequence);
      sequence.end(values);
      return false;
    });
  }

  /** Decode rows first, then prefill in order of arrival, until the step is full. */
  #schedule(): Chunk[] {
    const chunks: Chunk[] = [];
    let [rows, logitRows] = [MAX_ROWS, this.#maxLogitRows];
    const [decoding, prefilling] = [true, false].map((wanted) =>
      this.#running.filter((sequence) => (pending(sequence) === 1) === wanted),
    );
    for (const sequence of [...(decoding ?? []), ...(prefilling ?? [])]) {
      const chunk = nextChunk(sequence, rows, logitRows);
      if (chunk.count === 0) continue;
      rows -= chunk.count;
      logitRows -= chunk.logits;
      chunks.push(chunk);
    }
    return chunks;
  }

  /** Uses the logits (width) of the token at `position`. */
  #take({ tokens, goal }: Sequence, position: number, logits: Float32Array): void {
    switch (goal.kind) {
      case 'score':
        goal.scores.push(logProbability(logits, tokens[position + 1] ?? -1));
        return;
      case 'generate':
        tokens.push(argmax(logits));
        return;
      default:
        goal satisfies never;
    }
  }

  #release({ blockTable }: Sequence): void {
    this.#freeBlocks.push(...blockTable.splice(0));
  }
}

/** Tokens that are known, wanted, and not in the cache. */
function pending({ tokens, goal, computed }: Sequence): number {
  return tokens.length - (goal.kind === 'score' ? 1 : 0) - computed;
}

function nextChunk(sequence: Sequence, rows: number, logitRows: number): Chunk {
  const { goal, computed, tokens } = sequence;
  // Where the tokens begin whose logits are wanted.
  const from = Math.max(0, (goal.kind === 'score' ? goal.from : tokens.length - 1) - computed);
  const count = Math.min(pending(sequence), rows, from + logitRows);
  return { sequence, count, logits: Math.max(0, count - from) };
}

/** What a sequence was for, once it is all there. */
function outcome({ tokens, goal }: Sequence): number[] | undefined {
  switch (goal.kind) {
    case 'score':
      return goal.scores.length === tokens.length - 1 - goal.from ? goal.scores : undefined;
    case 'generate': {
      const made = tokens.slice(goal.promptTokens);
      if (goal.stopIds.has(made.at(-1) ?? -1)) return made.slice(0, -1);
      return made.length === goal.maxTokens ? made : undefined;
    }
    default:
      return goal satisfies never;
  }
}

function stepBatch(chunks: readonly Chunk[]): StepBatch {
  const rows = chunks.reduce((sum, { count }) => sum + count, 0);
  const slots = chunks.flatMap(({ sequence, count }) => new Array<number | undefined>(count).fill(sequence.slot));
  const blocksPerSequence = Math.max(...chunks.map(({ sequence }) => sequence.blockTable.length));
  const batch = {
    tokens: new Int32Array(rows),
    positions: new Int32Array(rows),
    sequenceStart: new Int32Array(chunks.length + 1),
    blockTable: new Int32Array(chunks.length * blocksPerSequence).fill(-1),
    blocksPerSequence,
    mixtureStart: new Int32Array(rows + 1),
    mixtureSlots: Int32Array.from(slots.filter((slot) => slot !== undefined)),
  };
  const logitRows: number[] = [];
  let row = 0;
  for (const [s, { sequence, count, logits }] of chunks.entries()) {
    const { tokens, computed, blockTable, slot } = sequence;
    batch.blockTable.set(blockTable, s * blocksPerSequence);
    for (let i = 0; i < count; i++, row++) {
      batch.tokens[row] = tokens[computed + i] ?? -1;
      batch.positions[row] = computed + i;
      batch.mixtureStart[row + 1] = (batch.mixtureStart[row] ?? 0) + (slot === undefined ? 0 : 1);
      if (i >= count - logits) logitRows.push(row);
    }
    batch.sequenceStart[s + 1] = row;
  }
  return {
    ...batch,
    mixtureWeights: new Float32Array(batch.mixtureSlots.length).fill(1),
    logitRows: Int32Array.from(logitRows),
  };
}
