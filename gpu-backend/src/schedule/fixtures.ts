/**
 * Made-up requests for the scheduler's tests, and a step without a model.
 */
import type { Digest } from '@signpost/contracts';
import fc from 'fast-check';
import { BlockManager } from './block-manager.ts';
import { Scheduler, type SchedulerOptions } from './scheduler.ts';
import { type ExpertTerm, Sequence, type SequenceOptions } from './sequence.ts';
import type { Chunk } from './step-budget.ts';

export const BLOCK_TOKENS = 4;

/** Experts in slots of their own number. */
export function mixtureOf(...experts: readonly number[]): ExpertTerm[] {
  return experts.map((slot) => ({ slot, weight: 1, digest: String(slot).padStart(64, '0') as Digest }));
}

export function sequenceOf(options: Partial<SequenceOptions> & { readonly tokens?: number }): Sequence {
  const { tokens = 1, ...rest } = options;
  const prompt = Array.from({ length: tokens }, (_, i) => i);
  return new Sequence({ id: 0, prompt, maxTokens: 1, mixture: [], scoresPrompt: false, ...rest });
}

export function schedulerOf(sizes: Partial<SchedulerOptions> & { readonly blocks: number }) {
  const { blocks: count, maxSequences = 4, ...rest } = sizes;
  const blocks = new BlockManager(count, BLOCK_TOKENS);
  const options = { maxStepTokens: 16, maxStepExperts: 8, maxSequences, maxLogitRows: maxSequences, ...rest };
  return { blocks, scheduler: new Scheduler(blocks, options), options };
}

/** One step: every sequence that it ends grows by a token; those that have all of theirs are taken out and given. */
export function runStep(scheduler: Scheduler): { chunks: readonly Chunk[]; ended: Sequence[] } {
  const chunks = scheduler.schedule();
  const ended: Sequence[] = [];
  for (const { sequence, start, count, logits } of chunks) {
    if (logits === 'all') sequence.scored = Math.min(sequence.promptLength, start + count + 1);
    if (start + count < sequence.tokens.length) continue;
    if (sequence.generated < sequence.maxTokens) sequence.tokens.push(7);
    if (sequence.generated < sequence.maxTokens) continue;
    scheduler.remove(sequence);
    ended.push(sequence);
  }
  return { chunks, ended };
}

export interface Arrival {
  readonly step: number;
  readonly tokens: number;
  readonly answer: number;
  readonly tenant: string;
  readonly experts: readonly number[];
}

export const arrival: fc.Arbitrary<Arrival> = fc.record({
  step: fc.nat(30),
  tokens: fc.integer({ min: 1, max: 40 }),
  answer: fc.integer({ min: 1, max: 20 }),
  tenant: fc.constantFrom('', 'a', 'b', 'c'),
  experts: fc.uniqueArray(fc.nat(5), { maxLength: 2 }),
});
