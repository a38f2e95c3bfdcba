import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { BlockManager } from './block-manager.ts';
import { type Arrival, arrival, BLOCK_TOKENS, mixtureOf, runStep, schedulerOf, sequenceOf } from './fixtures.ts';
import { type SchedulerOptions, turnTokens } from './scheduler.ts';
import type { Sequence } from './sequence.ts';
import type { Chunk } from './step-budget.ts';

interface Case extends Arrival {
  readonly scores: boolean;
  /** Step at which the client leaves. */
  readonly leaves: number | undefined;
}

const cases: fc.Arbitrary<Case[]> = fc.array(
  fc
    .tuple(
      arrival,
      fc.record({
        scores: fc.boolean(),
        leaves: fc.oneof({ weight: 3, arbitrary: fc.constant(undefined) }, { weight: 1, arbitrary: fc.nat(60) }),
      }),
    )
    .map(([came, more]) => ({ ...came, ...more })),
  { minLength: 1, maxLength: 12 },
);
const sizes = fc.record({
  maxStepTokens: fc.integer({ min: 1, max: 24 }),
  maxSequences: fc.integer({ min: 1, max: 6 }),
  maxStepExperts: fc.integer({ min: 1, max: 4 }),
  // Enough for the longest alone.
  blocks: fc.integer({ min: 15, max: 30 }),
});

function make(came: Case, id: number): Sequence {
  const { tokens, answer, tenant, experts, scores } = came;
  return sequenceOf({ id, tokens, maxTokens: answer, tenant, mixture: mixtureOf(...experts), scoresPrompt: scores });
}

const rowsOf = (chunks: readonly Chunk[]) => chunks.reduce((sum, { count }) => sum + count, 0);
const expertsOf = (chunks: readonly Chunk[]) => new Set(chunks.flatMap(({ sequence }) => sequence.experts)).size;

/** That blocks in more hands than one hold the same tokens, computed by the same experts. */
function checkShared(open: Iterable<Sequence>): Set<number> {
  const holders = new Map<number, { sequence: Sequence; index: number }>();
  for (const sequence of open) {
    for (const [index, block] of sequence.blockTable.entries()) {
      const other = holders.get(block);
      holders.set(block, { sequence, index });
      if (other === undefined) continue;
      const upTo = (one: Sequence) => [one.experts, one.tokens.slice(0, (index + 1) * BLOCK_TOKENS)];
      expect(other.index).toBe(index);
      expect(upTo(other.sequence), 'a block in two hands').toEqual(upTo(sequence));
    }
  }
  return new Set(holders.keys());
}

/** Runs arrivals to the end, checking every step; the number of steps that took. */
function simulate(list: readonly Case[], size: typeof sizes extends fc.Arbitrary<infer T> ? T : never): number {
  const { blocks, scheduler, options } = schedulerOf(size);
  const sequences = list.map(make);
  const open = new Set<Sequence>();
  let left = sequences.length;
  let step = 0;
  for (; left > 0; step++) {
    for (const [id, sequence] of sequences.entries()) {
      const { step: comes, leaves } = list[id] ?? { step: -1, leaves: -1 };
      if (comes === step && leaves !== undefined && leaves < comes) left--;
      else if (comes === step) {
        scheduler.add(sequence);
        open.add(sequence);
      }
      if (leaves === step && open.delete(sequence)) {
        scheduler.remove(sequence);
        left--;
      }
    }
    const { chunks, ended } = runStep(scheduler);
    expect(rowsOf(chunks)).toBeLessThanOrEqual(options.maxStepTokens);
    const logitRows = chunks.map(({ logits, count }) => ({ none: 0, last: 1, all: count })[logits]);
    expect(logitRows.reduce((sum, rows) => sum + rows, 0)).toBeLessThanOrEqual(options.maxLogitRows);
    const largest = Math.max(0, ...chunks.map(({ sequence }) => sequence.experts.length));
    expect(expertsOf(chunks)).toBeLessThanOrEqual(Math.max(options.maxStepExperts, largest));
    expect(scheduler.running).toBeLessThanOrEqual(options.maxSequences);
    if (open.size > 0) expect(chunks.length, 'a step that does nothing while there is work').toBeGreaterThan(0);
    for (const sequence of ended) {
      open.delete(sequence);
      left--;
    }
    expect(scheduler.running + scheduler.waiting).toBe(open.size);
    expect(checkShared(open).size + blocks.free, 'a lost block').toBe(blocks.blocks);
  }
  expect(blocks.free).toBe(blocks.blocks);
  return step;
}

describe('the scheduler', () => {
  it('finishes every sequence, within its budgets, without losing a block or sharing a wrong one', () => {
    fc.assert(
      fc.property(cases, sizes, (list, size) => {
        // Preemption computes tokens again, but every step the earliest gets on.
        const work = list.reduce((sum, { tokens, answer }) => sum + tokens + answer, 0);
        expect(simulate(list, size)).toBeLessThan(102 + 60 + 4 * work);
      }),
      { numRuns: 500 },
    );
  });

  it('computes each token of a sequence once, in order, where nothing is preempted', () => {
    fc.assert(
      fc.property(cases, sizes, (list, size) => {
        const { scheduler } = schedulerOf({ ...size, blocks: 400 });
        const next = new Map<number, number>();
        for (const [id, came] of list.entries()) scheduler.add(make({ ...came, leaves: undefined }, id));
        while (scheduler.running + scheduler.waiting > 0) {
          for (const { sequence, start, count } of runStep(scheduler).chunks) {
            expect(start).toBe(next.get(sequence.id) ?? sequence.cachedTokens);
            next.set(sequence.id, start + count);
          }
        }
        expect(scheduler.preemptions).toBe(0);
      }),
    );
  });
});

/** What the bounds of docs/engine.md are made of, as the worst of a run. */
interface Worst {
  /** Answers under way, and different sets of experts among them. */
  answers: number;
  answerSets: number;
  /** Tenants with prompts, and most sets of experts of one of them. */
  tenants: number;
  flows: number;
  /** Largest mixture. */
  mixture: number;
}

/** Bounds on steps without a row, as docs/engine.md states them. */
function boundsOf(options: SchedulerOptions, { answers, answerSets, tenants, flows, mixture }: Worst) {
  const setsPerStep = Math.max(1, Math.floor(options.maxStepExperts / Math.max(1, mixture)));
  const halfTurn = Math.ceil(turnTokens(options) / 2);
  return {
    answer: 2 * (Math.ceil(answers / options.maxStepTokens) + Math.ceil(answerSets / setsPerStep)),
    /** `ahead`: tokens of the prompts before it in its flow, and its first. */
    prompt: (ahead: number) => 2 * tenants * flows * Math.ceil(ahead / halfTurn),
  };
}

const setOf = ({ experts }: Sequence) => experts.join(',');
const countBy = <T>(items: readonly T[], of: (item: T) => string) => new Set(items.map(of)).size;

describe('waiting', () => {
  const crowd = fc.array(fc.record({ ...fcFields(), step: fc.nat(60) }), { minLength: 1, maxLength: 80 });
  const limits = fc.record({
    maxStepTokens: fc.integer({ min: 1, max: 24 }),
    maxStepExperts: fc.integer({ min: 1, max: 4 }),
  });
  function fcFields() {
    return {
      tokens: fc.integer({ min: 1, max: 40 }),
      answer: fc.integer({ min: 1, max: 30 }),
      tenant: fc.constantFrom('', 'a', 'b', 'c', 'd'),
      experts: fc.uniqueArray(fc.nat(7), { maxLength: 2 }),
    };
  }

  it('is bounded, for the next row of an answer as for the first of a prompt, whoever arrives meanwhile', () => {
    fc.assert(
      fc.property(crowd, limits, (list, limit) => {
        // Room for all: what is measured is turns.
        const { scheduler, options } = schedulerOf({ ...limit, maxSequences: 80, blocks: 2_000 });
        const worst: Worst = { answers: 0, answerSets: 0, tenants: 0, flows: 0, mixture: 0 };
        const sequences = list.map((came, id) => make({ ...came, scores: false, leaves: undefined }, id));
        const open = new Set<Sequence>();
        /** Steps since its last row, or its arrival; the worst of each kind is kept. */
        const waited = new Map<Sequence, number>();
        const ahead = new Map<Sequence, number>();
        const answerWaits: number[] = [];
        const promptWaits: { ahead: number; steps: number }[] = [];
        for (let step = 0; step <= 60 || open.size > 0; step++) {
          for (const [id, sequence] of sequences.entries()) {
            if (list[id]?.step !== step) continue;
            const before = [...open].filter(
              (other) =>
                other.phase !== 'decode' && other.tenant === sequence.tenant && setOf(other) === setOf(sequence),
            );
            ahead.set(
              sequence,
              before.reduce((sum, { pending }) => sum + pending, 1),
            );
            scheduler.add(sequence);
            open.add(sequence);
            waited.set(sequence, 0);
          }
          const [answers, prompts] = [true, false].map((is) => [...open].filter((s) => (s.phase === 'decode') === is));
          if (answers === undefined || prompts === undefined) throw new Error('both are there');
          worst.answers = Math.max(worst.answers, answers.length);
          worst.answerSets = Math.max(worst.answerSets, countBy(answers, setOf));
          worst.tenants = Math.max(
            worst.tenants,
            countBy(prompts, ({ tenant }) => tenant),
          );
          for (const { tenant } of prompts) {
            const own = prompts.filter((other) => other.tenant === tenant);
            worst.flows = Math.max(worst.flows, countBy(own, setOf));
          }
          for (const { experts } of open) worst.mixture = Math.max(worst.mixture, experts.length);
          const { chunks, ended } = runStep(scheduler);
          const served = new Set(chunks.map(({ sequence }) => sequence));
          for (const sequence of open) {
            const steps = (waited.get(sequence) ?? 0) + 1;
            const first = ahead.get(sequence);
            if (served.has(sequence) && first !== undefined) {
              promptWaits.push({ ahead: first, steps });
              ahead.delete(sequence);
            } else if (answers.includes(sequence)) answerWaits.push(steps);
            waited.set(sequence, served.has(sequence) ? 0 : steps);
          }
          for (const sequence of ended) open.delete(sequence);
        }
        expect(promptWaits).toHaveLength(list.length);
        const bounds = boundsOf(options, worst);
        expect(Math.max(0, ...answerWaits)).toBeLessThanOrEqual(bounds.answer);
        for (const { ahead: tokens, steps } of promptWaits) expect(steps).toBeLessThanOrEqual(bounds.prompt(tokens));
      }),
      { numRuns: 300 },
    );
  });

  it('for room ends although others, who need less of it, never stop coming', () => {
    const { scheduler } = schedulerOf({ blocks: 16, maxSequences: 4 });
    const add = (id: number, tokens: number, tenant: string) => {
      const sequence = sequenceOf({ id, prompt: Array.from({ length: tokens }, () => id), maxTokens: 8, tenant });
      scheduler.add(sequence);
      return sequence;
    };
    for (let id = 1; id < 9; id++) add(id, 8, `t${id % 3}`);
    runStep(scheduler);
    const large = add(0, 52, 'large');
    let steps = 0;
    for (; large.phase === 'waiting'; steps++) {
      add(100 + steps, 8, `t${steps % 3}`);
      runStep(scheduler);
      expect(steps).toBeLessThan(60);
    }
    // Its turn, and then what runs: four answers side by side.
    expect(steps).toBeLessThan(2 * 4 + 4 * 16);
  });

  it('for room and a turn at once ends although others take every place that is left by an expert in use', () => {
    const { scheduler } = schedulerOf({ blocks: 400, maxSequences: 2, maxStepExperts: 1 });
    scheduler.add(sequenceOf({ id: 1, maxTokens: 200, mixture: mixtureOf(1) }));
    runStep(scheduler);
    const patient = sequenceOf({ id: 2, tenant: 'patient', mixture: mixtureOf(2) });
    scheduler.add(patient);
    for (let step = 0; step < 8; step++) {
      scheduler.add(sequenceOf({ id: 3 + step, tenant: 'other', maxTokens: 2, mixture: mixtureOf(1) }));
      runStep(scheduler);
    }
    expect(patient.generated).toBe(1);
  });

  it('is shared between tenants, however many requests one of them has, and between the experts of one', () => {
    const { scheduler } = schedulerOf({ blocks: 4_000, maxSequences: 64, maxStepTokens: 16 });
    const tokens = new Map<string, number>();
    const add = (id: number, tenant: string, expert: number) =>
      scheduler.add(
        sequenceOf({ id, prompt: Array.from({ length: 64 }, () => id), tenant, mixture: mixtureOf(expert) }),
      );
    for (let id = 0; id < 60; id++) add(id, 'many', id < 50 ? 1 : 2);
    for (let id = 60; id < 64; id++) add(id, 'few', 1);
    for (let step = 0; step < 24; step++) {
      for (const { sequence, count } of runStep(scheduler).chunks) {
        const key = `${sequence.tenant} ${setOf(sequence)}`;
        tokens.set(key, (tokens.get(key) ?? 0) + count);
      }
    }
    const [few = 0, first = 0, second = 0] = ['few 1', 'many 1', 'many 2'].map((key) => tokens.get(key));
    expect(Math.abs(few - first - second)).toBeLessThanOrEqual(16);
    expect(Math.abs(first - second)).toBeLessThanOrEqual(16);
  });

  it('of the base does not depend on experts, when every one of a step is taken', () => {
    const { scheduler } = schedulerOf({ blocks: 400, maxSequences: 12, maxStepExperts: 1, maxStepTokens: 32 });
    for (let id = 0; id < 8; id++) {
      scheduler.add(sequenceOf({ id, tokens: 3, maxTokens: 40, mixture: mixtureOf(id), tenant: 'experts' }));
    }
    const base = sequenceOf({ id: 8, tokens: 3, maxTokens: 20, tenant: 'base' });
    scheduler.add(base);
    while (base.phase !== 'decode') runStep(scheduler);
    for (let step = 0; step < 10; step++) {
      expect(runStep(scheduler).chunks.some(({ sequence }) => sequence === base)).toBe(true);
    }
  });
});

describe('preemption', () => {
  it('takes the latest arrival, which goes on where it was from what is left in the cache', () => {
    const { scheduler } = schedulerOf({ blocks: 4 });
    const [oldest, newest, later] = [0, 1, 2].map((id) =>
      sequenceOf({ id, prompt: [id, 2, 3, 4, 5, 6, 7], maxTokens: 8 }),
    );
    if (oldest === undefined || newest === undefined || later === undefined) throw new Error('three were made');
    const step = () => runStep(scheduler).chunks.map(({ sequence }) => sequence);
    for (const sequence of [oldest, newest, later]) scheduler.add(sequence);
    expect(step()).toEqual([oldest, newest]);
    expect(step()).toEqual([oldest, newest]);
    // Position 8 begins a third block, and none is left.
    expect(step()).toEqual([oldest]);
    expect([newest.computed, newest.generated, newest.blockTable.length]).toEqual([0, 2, 0]);
    while (oldest.generated < oldest.maxTokens) expect(step()[0]).toBe(oldest);
    expect(scheduler.preemptions).toBe(1);
    expect(runStep(scheduler).chunks[0]).toMatchObject({ sequence: newest, start: 0 });
    expect(newest.tokens).toHaveLength(10);
  });
});

describe('a sequence computed elsewhere', () => {
  const computed = (blocks: BlockManager, id: number, tokens: number, computed: number) => {
    const sequence = sequenceOf({ id, tokens, maxTokens: 3 });
    expect(blocks.admit(sequence)).toBe(true);
    sequence.computed = computed;
    return sequence;
  };

  it.each([6, 9])('goes on where it is, with %i of 9 tokens computed, and shares its blocks', (done) => {
    const { blocks, scheduler } = schedulerOf({ blocks: 8 });
    const sequence = computed(blocks, 1, 9, done);
    expect(scheduler.adopt(sequence)).toBe(true);
    // Its first token is sampled from what was computed.
    if (sequence.pending === 0) sequence.tokens.push(7);
    expect(runStep(scheduler).chunks).toMatchObject([
      { sequence, start: done, count: done === 9 ? 1 : 3, logits: 'last' },
    ]);
    const same = sequenceOf({ id: 2, tokens: 9 });
    blocks.admit(same);
    expect(same.computed).toBe(8);
    blocks.release(same);
    while (scheduler.running > 0) runStep(scheduler);
    expect(blocks.free).toBe(8);
  });

  it('takes nobody’s place: where all are taken or waited for, it waits, with its full blocks in the cache', () => {
    const { blocks, scheduler } = schedulerOf({ blocks: 8, maxSequences: 1 });
    const first = sequenceOf({ id: 1, prompt: [30, 31], maxTokens: 2 });
    scheduler.add(first);
    const sequence = computed(blocks, 2, 9, 9);
    expect(scheduler.adopt(sequence)).toBe(false);
    expect(sequence.blockTable).toEqual([]);
    for (let step = 0; step < 2; step++) expect(runStep(scheduler).chunks).toMatchObject([{ sequence: first }]);
    expect(runStep(scheduler).chunks).toMatchObject([{ sequence, start: 8, count: 1, logits: 'last' }]);
  });
});

describe('several steps at once', () => {
  /** Two answers under way, each with so many tokens to come. */
  function decoding(blocks: number, maxTokens: readonly number[]) {
    const { scheduler, blocks: cache } = schedulerOf({ blocks, decodeSteps: 4 });
    for (const [id, most] of maxTokens.entries()) scheduler.add(sequenceOf({ id, tokens: 3, maxTokens: most }));
    runStep(scheduler);
    return { scheduler, cache };
  }

  it('are as many as asked for, with blocks for them, while nothing else has work to do', () => {
    const { scheduler, cache } = decoding(8, [9, 9]);
    const chunks = scheduler.schedule();
    expect(scheduler.reserve(chunks)).toBe(4);
    for (const { sequence } of chunks) expect(sequence.blockTable.length * BLOCK_TOKENS).toBeGreaterThanOrEqual(7);
    expect(cache.free).toBe(4);
  });

  it('are no more than the shortest answer has to come, or than there are blocks for', () => {
    const short = decoding(8, [9, 4]);
    expect(short.scheduler.reserve(short.scheduler.schedule())).toBe(3);
    const full = decoding(2, [9, 9]);
    expect(full.scheduler.reserve(full.scheduler.schedule())).toBe(1);
    expect(full.cache.free).toBe(0);
  });

  it('are one where a prompt is in the step, or waits', () => {
    const { scheduler } = decoding(8, [9, 9]);
    scheduler.add(sequenceOf({ id: 2, tokens: 3, maxTokens: 9 }));
    expect(scheduler.reserve(scheduler.schedule())).toBe(1);
    const full = decoding(4, [9, 9]);
    full.scheduler.add(sequenceOf({ id: 2, tokens: 12, maxTokens: 9 }));
    expect(full.scheduler.reserve(full.scheduler.schedule())).toBe(1);
  });
});
