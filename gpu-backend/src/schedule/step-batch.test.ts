import { describe, expect, it } from 'vitest';
import { mixtureOf, schedulerOf, sequenceOf } from './fixtures.ts';
import { StepBatchBuilder } from './step-batch.ts';

describe('a step batch', () => {
  it('has one row for each token, with its position, mixture and blocks, whatever was in its memory before', () => {
    const batches = new StepBatchBuilder();
    const larger = schedulerOf({ blocks: 8 }).scheduler;
    larger.add(sequenceOf({ tokens: 15, mixture: mixtureOf(1, 2, 3), scoresPrompt: false }));
    batches.build(larger.schedule());
    const { scheduler } = schedulerOf({ blocks: 8 });
    const mixture = mixtureOf(1, 0).map((term, i) => ({ ...term, weight: 1 / (1 + i) }));
    for (const [id, experts] of [mixture, []].entries())
      scheduler.add(sequenceOf({ id, prompt: [10 + id, 20 + id], mixture: experts, scoresPrompt: id === 1 }));
    const batch = batches.build(scheduler.schedule());
    expect([...batch.tokens]).toEqual([10, 20, 11, 21]);
    expect([...batch.positions]).toEqual([0, 1, 0, 1]);
    expect([...batch.sequenceStart]).toEqual([0, 2, 4]);
    expect([...batch.blockTable]).toEqual([0, 1]);
    expect([...batch.mixtureStart]).toEqual([0, 2, 4, 4, 4]);
    expect([...batch.mixtureSlots]).toEqual([1, 0, 1, 0]);
    expect([...batch.mixtureWeights]).toEqual([1, 0.5, 1, 0.5]);
    expect([...batch.logitRows]).toEqual([1, 2, 3]);
  });
});
