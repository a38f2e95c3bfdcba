/**
 * A step's chunks as the flat arrays a device takes.
 */
import type { StepBatch } from '@signpost/engine';
import type { Chunk } from './scheduler.ts';

export function buildStepBatch(chunks: readonly Chunk[]): StepBatch {
  const rows = chunks.reduce((sum, { count }) => sum + count, 0);
  const terms = chunks.reduce((sum, { count, sequence }) => sum + count * sequence.mixture.length, 0);
  const blocksPerSequence = Math.max(0, ...chunks.map(({ sequence }) => sequence.blockTable.length));
  const batch = {
    tokens: new Int32Array(rows),
    positions: new Int32Array(rows),
    sequenceStart: new Int32Array(chunks.length + 1),
    blockTable: new Int32Array(chunks.length * blocksPerSequence).fill(-1),
    blocksPerSequence,
    mixtureStart: new Int32Array(rows + 1),
    mixtureSlots: new Int32Array(terms),
    mixtureWeights: new Float32Array(terms),
    logitRows: Int32Array.from(logitRows(chunks)),
  };
  let row = 0;
  let term = 0;
  for (const [s, { sequence, start, count }] of chunks.entries()) {
    batch.blockTable.set(sequence.blockTable, s * blocksPerSequence);
    for (let i = 0; i < count; i++) {
      batch.tokens[row] = sequence.tokens[start + i] ?? -1;
      batch.positions[row] = start + i;
      for (const { slot, weight } of sequence.mixture) {
        batch.mixtureSlots[term] = slot;
        batch.mixtureWeights[term++] = weight;
      }
      batch.mixtureStart[++row] = term;
    }
    batch.sequenceStart[s + 1] = row;
  }
  return batch;
}

/** Rows of the step, ascending, whose logits the chunks ask for. */
function* logitRows(chunks: readonly Chunk[]): Generator<number> {
  let row = 0;
  for (const { count, logits } of chunks) {
    if (logits === 'all') for (let i = 0; i < count; i++) yield row + i;
    if (logits === 'last') yield row + count - 1;
    row += count;
  }
}
