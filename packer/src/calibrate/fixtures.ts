/**
 * What tests of calibration share.
 */
import type { Digest } from '@signpost/contracts';
import type { Checkpoint } from '@signpost/engine';
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
