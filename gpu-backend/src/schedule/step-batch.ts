/**
 * A step's chunks as the flat arrays a device takes, in memory that every step uses again.
 */
import type { StepBatch } from '@signpost/engine';
import type { Chunk } from './step-budget.ts';

/** Grows to the largest step it has seen. What `build` gives is good until the next `build`. */
export class StepBatchBuilder {
  #tokens = new Int32Array(0);
  #positions = new Int32Array(0);
  #sequenceStart = new Int32Array(0);
  #blockTable = new Int32Array(0);
  #mixtureStart = new Int32Array(0);
  #mixtureSlots = new Int32Array(0);
  #mixtureWeights = new Float32Array(0);
  #logitRows = new Int32Array(0);

  /** @param ahead positions after the chunks' that their sequences have blocks for, too. */
  build(chunks: readonly Chunk[], ahead = 0): StepBatch {
    const rows = sum(chunks, ({ count }) => count);
    const terms = sum(chunks, ({ count, sequence }) => count * sequence.mixture.length);
    const blocksPerSequence = Math.max(0, ...chunks.map(({ sequence }) => sequence.blockTable.length));
    const logitRows = sum(chunks, logitCount);
    this.#reserve(rows, terms, chunks.length, chunks.length * blocksPerSequence);
    const batch = {
      tokens: this.#tokens.subarray(0, rows),
      positions: this.#positions.subarray(0, rows),
      sequenceStart: this.#sequenceStart.subarray(0, chunks.length + 1),
      blockTable: this.#blockTable.subarray(0, chunks.length * blocksPerSequence).fill(-1),
      blocksPerSequence,
      mixtureStart: this.#mixtureStart.subarray(0, rows + 1),
      mixtureSlots: this.#mixtureSlots.subarray(0, terms),
      mixtureWeights: this.#mixtureWeights.subarray(0, terms),
      logitRows: this.#logitRows.subarray(0, logitRows),
      ahead,
    };
    fill(batch, chunks);
    return batch;
  }

  #reserve(rows: number, terms: number, sequences: number, blocks: number): void {
    if (this.#tokens.length < rows) {
      this.#tokens = new Int32Array(rows);
      this.#positions = new Int32Array(rows);
      this.#mixtureStart = new Int32Array(rows + 1);
      this.#logitRows = new Int32Array(rows);
    }
    if (this.#mixtureSlots.length < terms) {
      this.#mixtureSlots = new Int32Array(terms);
      this.#mixtureWeights = new Float32Array(terms);
    }
    if (this.#sequenceStart.length < sequences + 1) this.#sequenceStart = new Int32Array(sequences + 1);
    // Answers grow: half as much again, or it would be made anew every few steps.
    if (this.#blockTable.length < blocks) this.#blockTable = new Int32Array(Math.ceil(blocks * 1.5));
  }
}

/** Rows of a chunk that logits are wanted for. */
export function logitCount({ logits, count }: Chunk): number {
  return logits === 'all' ? count : logits === 'last' ? 1 : 0;
}

function fill(batch: StepBatch, chunks: readonly Chunk[]): void {
  let [row, term, logit] = [0, 0, 0];
  batch.sequenceStart[0] = 0;
  batch.mixtureStart[0] = 0;
  for (const [s, chunk] of chunks.entries()) {
    const { sequence, start, count } = chunk;
    batch.blockTable.set(sequence.blockTable, s * batch.blocksPerSequence);
    for (let i = 0; i < count; i++) {
      batch.tokens[row] = sequence.tokens[start + i] ?? -1;
      batch.positions[row] = start + i;
      for (const { slot, weight } of sequence.mixture) {
        batch.mixtureSlots[term] = slot;
        batch.mixtureWeights[term++] = weight;
      }
      batch.mixtureStart[++row] = term;
    }
    for (let i = logitCount(chunk); i > 0; i--) batch.logitRows[logit++] = row - i;
    batch.sequenceStart[s + 1] = row;
  }
}

function sum(chunks: readonly Chunk[], of: (chunk: Chunk) => number): number {
  return chunks.reduce((total, chunk) => total + of(chunk), 0);
}
