/**
 * What tests of calibration share.
 */
import type { Digest } from '@signpost/contracts';
import type { Checkpoint } from '@signpost/engine';
import { expect } from 'vitest';
import type { CalibrationSet } from './prompts.ts';

/** 48 sequences of 24 tokens of a model's vocabulary. */
export function sequences(seed: number, { config }: Checkpoint): CalibrationSet {
  let state = seed;
  const next = (below: number) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
  return {
    sequences: Array.from({ length: 48 }, () => ({
      tokens: Array.from({ length: 24 }, () => next(config.vocabSize)),
      answerStart: 0,
    })),
    digest: String(seed).repeat(64) as Digest,
  };
}

/** That no step of a scale, not below `floor`, makes the objective less by more than rounding does. */
export function expectLeast(
  objective: (scales: Float32Array) => number,
  found: Float32Array,
  { floor, rounding }: { readonly floor: number; readonly rounding: number },
): void {
  const reached = objective(found);
  for (const [j, scale] of found.entries())
    for (const step of [-0.02, 0.02]) {
      const moved = found.slice();
      moved[j] = Math.max(floor, scale + step);
      expect(objective(moved)).toBeGreaterThan(reached - rounding * (1 + reached));
    }
}
