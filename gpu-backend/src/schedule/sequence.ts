/**
 * One request's tokens on their way through the engine.
 */
import type { SlotWeight } from '@signpost/engine';

export interface SequenceOptions {
  readonly id: number;
  readonly prompt: readonly number[];
  /** 0 only scores the prompt. */
  readonly maxTokens: number;
  /** Experts in device slots that answer it; none is the base. */
  readonly mixture: readonly SlotWeight[];
  /** Whether the log-probability of each prompt token is wanted. */
  readonly scoresPrompt: boolean;
}

export class Sequence {
  readonly id: number;
  readonly promptLength: number;
  readonly maxTokens: number;
  readonly mixture: readonly SlotWeight[];
  readonly scoresPrompt: boolean;
  /** Prompt and generated tokens. */
  readonly tokens: number[];
  /** Blocks of the KV cache, in order of position. */
  readonly blockTable: number[] = [];
  /** Tokens whose keys and values are in the cache. */
  computed = 0;

  constructor({ id, prompt, maxTokens, mixture, scoresPrompt }: SequenceOptions) {
    this.id = id;
    this.tokens = [...prompt];
    this.promptLength = prompt.length;
    this.maxTokens = maxTokens;
    this.mixture = mixture;
    this.scoresPrompt = scoresPrompt;
  }

  get generated(): number {
    return this.tokens.length - this.promptLength;
  }

  /** Tokens not yet in the cache: 1 while decoding, more while the prompt (or, after preemption, everything) is still to be computed. */
  get pending(): number {
    return this.tokens.length - this.computed;
  }

  get isDecoding(): boolean {
    return this.pending === 1 && this.generated > 0;
  }
}
