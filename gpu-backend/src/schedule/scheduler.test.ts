import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { BlockManager } from './block-manager.ts';
import { Scheduler, type SchedulerOptions } from './scheduler.ts';
import { Sequence } from './sequence.ts';
import { buildStepBatch } from './step-batch.ts';

interface Arrival {
  readonly step: number;
  readonly prompt: number;
  readonly answer: number;
  readonly scores: boolean;
  /** Step at which the client leaves. */
  readonly leaves: number | undefined;
}

const BLOCK_TOKENS = 4;
const arrival: fc.Arbitrary<Arrival> = fc.record({
  step: fc.nat(30),
  prompt: fc.integer({ min: 1, max: 40 }),
  answer: fc.integer({ min: 1, max: 20 }),
  scores: fc.boolean(),
  leaves: fc.oneof({ weight: 3, arbitrary: fc.constant(undefined) }, { weight: 1, arbitrary: fc.nat(60) }),
});
const options: fc.Arbitrary<SchedulerOptions & { blocks: number }> = fc
  .record({
    maxStepTokens: fc.integer({ min: 1, max: 24 }),
    maxSequences: fc.integer({ min: 1, max: 6 }),
    blocks: fc.integer({ min: 15, max: 30 }),
  })
  .map((sizes) => ({ ...sizes, maxLogitRows: sizes.maxSequences }));

/** Runs arrivals to the end, checking every step; the number of steps that took. */
function simulate(arrivals: readonly Arrival[], sizes: SchedulerOptions & { blocks: number }): number {
  const blocks = new BlockManager(sizes.blocks, BLOCK_TOKENS);
  const scheduler = new Scheduler(blocks, sizes);
  const sequences = arrivals.map(({ prompt, answer, scores }, id) => {
    return new Sequence({
      id,
      prompt: Array.from({ length: prompt }, (_, i) => i),
      maxTokens: answer,
      mixture: [],
      scoresPrompt: scores,
    });
  });
  const open = new Set<Sequence>();
  const ended = new Set<Sequence>();
  const end = (sequence: Sequence) => {
    scheduler.remove(sequence);
    open.delete(sequence);
    ended.add(sequence);
  };
  let step = 0;
  for (; ended.size < sequences.length; step++) {
    for (const [id, sequence] of sequences.entries()) {
      if (arrivals[id]?.step === step) {
        scheduler.add(sequence);
        open.add(sequence);
      }
      if (arrivals[id]?.leaves === step && open.has(sequence)) end(sequence);
      // Left before it came.
      if (step > 100 && !open.has(sequence) && !ended.has(sequence)) ended.add(sequence);
    }
    const chunks = scheduler.schedule();
    const rows = chunks.reduce((sum, { count }) => sum + count, 0);
    expect(rows).toBeLessThanOrEqual(sizes.maxStepTokens);
    expect(buildStepBatch(chunks).logitRows.length).toBeLessThanOrEqual(sizes.maxLogitRows);
    expect(scheduler.running).toBeLessThanOrEqual(sizes.maxSequences);
    if (open.size > 0) expect(rows, 'a step that does nothing while there is work').toBeGreaterThan(0);
    const held = [...open].flatMap(({ blockTable }) => blockTable);
    expect(new Set(held).size, 'a block in two hands').toBe(held.length);
    expect(held.length + blocks.free, 'a lost block').toBe(blocks.blocks);
    for (const chunk of chunks) {
      const { sequence, start, count, logits } = chunk;
      expect(start).toBe(sequence.computed);
      expect(sequence.blockTable.length * BLOCK_TOKENS).toBeGreaterThanOrEqual(start + count);
      const isLast = start + count === sequence.tokens.length;
      expect(logits === 'none').toBe(!isLast && !(sequence.scoresPrompt && start < sequence.promptLength));
      scheduler.advance(chunk, isLast ? 7 : undefined);
      if (sequence.generated >= sequence.maxTokens) end(sequence);
    }
  }
  expect(blocks.free).toBe(blocks.blocks);
  return step;
}

describe('the scheduler', () => {
  it('finishes every sequence, within its budgets, without losing or sharing a block', () => {
    fc.assert(
      fc.property(fc.array(arrival, { minLength: 1, maxLength: 12 }), options, (arrivals, sizes) => {
        // Preemption computes tokens again, but every step the oldest gets on.
        const work = arrivals.reduce((sum, { prompt, answer }) => sum + prompt + answer, 0);
        expect(simulate(arrivals, sizes)).toBeLessThan(102 + 60 + 4 * work);
      }),
      { numRuns: 300 },
    );
  });

  it('lets no stream of later arrivals starve an earlier one', () => {
    const first = { step: 1, prompt: 40, answer: 20, scores: false, leaves: undefined };
    const later = Array.from({ length: 60 }, (_, i) => ({
      step: 1 + i,
      prompt: 8,
      answer: 10,
      scores: false,
      leaves: undefined,
    }));
    const blocks = new BlockManager(16, BLOCK_TOKENS);
    const scheduler = new Scheduler(blocks, { maxStepTokens: 16, maxSequences: 4, maxLogitRows: 4 });
    const make = ({ prompt, answer }: Arrival, id: number) =>
      new Sequence({
        id,
        prompt: new Array<number>(prompt).fill(1),
        maxTokens: answer,
        mixture: [],
        scoresPrompt: false,
      });
    const target = make(first, 0);
    scheduler.add(target);
    let steps = 0;
    for (; target.generated < target.maxTokens; steps++) {
      const next = later[steps];
      if (next !== undefined) scheduler.add(make(next, steps + 1));
      for (const chunk of scheduler.schedule()) {
        const { sequence, start, count } = chunk;
        scheduler.advance(chunk, start + count === sequence.tokens.length ? 7 : undefined);
        if (sequence.generated >= sequence.maxTokens) scheduler.remove(sequence);
      }
    }
    expect(steps).toBeLessThan(40);
  });
});

describe('preemption', () => {
  it('takes the newest sequence, which is the first to come back and goes on where it was', () => {
    const blocks = new BlockManager(4, BLOCK_TOKENS);
    const scheduler = new Scheduler(blocks, { maxStepTokens: 16, maxSequences: 4, maxLogitRows: 4 });
    const [oldest, newest, later] = [0, 1, 2].map(
      (id) => new Sequence({ id, prompt: [1, 2, 3, 4, 5, 6, 7], maxTokens: 8, mixture: [], scoresPrompt: false }),
    );
    if (oldest === undefined || newest === undefined || later === undefined) throw new Error('three were made');
    const step = () => {
      const chunks = scheduler.schedule();
      for (const chunk of chunks) {
        scheduler.advance(chunk, chunk.start + chunk.count === chunk.sequence.tokens.length ? 7 : undefined);
        if (chunk.sequence.generated >= chunk.sequence.maxTokens) scheduler.remove(chunk.sequence);
      }
      return chunks.map(({ sequence }) => sequence);
    };
    for (const sequence of [oldest, newest, later]) scheduler.add(sequence);
    expect(step()).toEqual([oldest, newest]);
    expect(step()).toEqual([oldest, newest]);
    // Position 8 begins a third block, and none is left.
    expect(step()).toEqual([oldest]);
    expect([newest.computed, newest.generated, newest.blockTable.length]).toEqual([0, 2, 0]);
    while (scheduler.running > 0 && oldest.generated < oldest.maxTokens) expect(step()[0]).toBe(oldest);
    expect(step()[0]).toBe(newest);
    expect(newest.tokens).toHaveLength(10);
  });
});

describe('a step batch', () => {
  it('has one row for each token, with its position, mixture and blocks', () => {
    const blocks = new BlockManager(8, BLOCK_TOKENS);
    const scheduler = new Scheduler(blocks, { maxStepTokens: 16, maxSequences: 4, maxLogitRows: 4 });
    const mixtures = [
      [
        { slot: 1, weight: 1 },
        { slot: 0, weight: 0.5 },
      ],
      [],
    ];
    for (const [id, mixture] of mixtures.entries())
      scheduler.add(new Sequence({ id, prompt: [10 + id, 20 + id], maxTokens: 1, mixture, scoresPrompt: id === 1 }));
    const batch = buildStepBatch(scheduler.schedule());
    expect([...batch.tokens]).toEqual([10, 20, 11, 21]);
    expect([...batch.positions]).toEqual([0, 1, 0, 1]);
    expect([...batch.sequenceStart]).toEqual([0, 2, 4]);
    expect([...batch.blockTable]).toEqual([0, 1]);
    expect([...batch.mixtureStart]).toEqual([0, 2, 4, 4, 4]);
    expect([...batch.mixtureSlots]).toEqual([1, 0, 1, 0]);
    expect([...batch.logitRows]).toEqual([1, 2, 3]);
  });
});
