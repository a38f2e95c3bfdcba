/**
 * What a step's batch must satisfy before a device may use its numbers as indices.
 */
import type { DeviceConfig, StepBatch } from './device.ts';

/** @throws RangeError naming the row, sequence or field that is wrong. */
export function checkBatch(batch: StepBatch, { slots, kv }: DeviceConfig): void {
  const rows = batch.tokens.length;
  const require = (condition: boolean, message: string) => {
    if (!condition) throw new RangeError(message);
  };
  const {
    positions,
    sequenceStart,
    blockTable,
    blocksPerSequence,
    mixtureStart,
    mixtureSlots,
    mixtureWeights,
    logitRows,
    ahead = 0,
  } = batch;
  require(positions.length === rows, 'positions and tokens differ in length');
  require(sequenceStart[0] === 0 &&
    sequenceStart.at(-1) === rows, 'sequenceStart must go from 0 to the number of rows');
  require(blockTable.length ===
    (sequenceStart.length - 1) * blocksPerSequence, 'blockTable must be (sequences, blocksPerSequence)');
  require(mixtureStart.length === rows + 1 &&
    mixtureStart[0] === 0, 'mixtureStart must have one entry more than rows and begin at 0');
  require(mixtureSlots.length === mixtureWeights.length &&
    mixtureStart.at(-1) === mixtureSlots.length, 'mixtureStart must end at the number of terms');
  require(isAscending(sequenceStart, 0), 'sequenceStart must not fall');
  require(isAscending(mixtureStart, 0), 'mixtureStart must not fall');
  require(isAscending(logitRows, 1) &&
    (logitRows[0] ?? 0) >= 0 &&
    (logitRows.at(-1) ?? -1) < rows, 'logitRows must be rows of the step, ascending');
  for (const slot of mixtureSlots) require(slot >= 0 && slot < slots, `slot ${slot} does not exist`);
  for (const [row, token] of batch.tokens.entries()) require(token >= 0, `row ${row}: token ${token} does not exist`);
  for (let sequence = 0; sequence + 1 < sequenceStart.length; sequence++) {
    const own = positions.subarray(sequenceStart[sequence], sequenceStart[sequence + 1]);
    own.forEach((position, i) => {
      const row = (sequenceStart[sequence] ?? 0) + i;
      require(position >= 0 &&
        position + ahead <
          blocksPerSequence * kv.blockTokens, `row ${row}: position ${position} is beyond its sequence's blocks`);
      require(i === 0 || position === (own[i - 1] ?? 0) + 1, "a sequence's rows must be consecutive positions");
    });
    const used = own.length === 0 ? 0 : Math.floor(((own.at(-1) ?? 0) + ahead) / kv.blockTokens) + 1;
    const first = sequence * blocksPerSequence;
    for (const block of blockTable.subarray(first, first + used)) {
      require(block >= 0 && block < kv.blocks, `sequence ${sequence}: block ${block} does not exist`);
    }
  }
}

function isAscending(values: Int32Array, step: 0 | 1): boolean {
  return values.every((value, i) => i === 0 || value >= (values[i - 1] ?? 0) + step);
}
