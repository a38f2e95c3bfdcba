/**
 * One request's tokens on their way through the engine.
 */
import type { Digest } from '@signpost/contracts';
import type { SlotWeight } from '@signpost/engine';

/** An expert's part in the answer: where it lies, how much of it counts, and which bytes it is. */
export interface ExpertTerm extends SlotWeight {
  readonly digest: Digest;
}

export interface SequenceOptions {
  readonly id: number;
  readonly prompt: readonly number[];
  /** Tokens answered by an earlier run, from where this one goes on. */
  readonly generated?: readonly number[];
  /** Longest answer, `generated` included; 0 only scores the prompt. */
  readonly maxTokens: number;
  /** Experts in device slots that answer it; none is the base. */
  readonly mixture: readonly ExpertTerm[];
  readonly tenant?: string;
  /** Whether the log-probability of each prompt token is wanted. */
  readonly scoresPrompt: boolean;
}

/**
 * `waiting`: holds nothing, its tokens are to be computed (once more, after it was preempted). `prefill`: has its blocks, tokens of it are
 * left to compute. `decode`: all are computed but the one sampled last.
 */
type Phase = 'waiting' | 'prefill' | 'decode';

export class Sequence {
  readonly id: number;
  readonly promptLength: number;
  readonly maxTokens: number;
  readonly mixture: readonly ExpertTerm[];
  /** Slots of the mixture, ascending. */
  readonly experts: readonly number[];
  readonly tenant: string;
  readonly scoresPrompt: boolean;
  /** Prompt and generated tokens. */
  readonly tokens: number[];
  /** Blocks of the KV cache, in order of position. */
  readonly blockTable: number[] = [];
  /** Names of its full blocks' contents, as far as they were asked for (see block-hash.ts). */
  readonly blockHashes: string[] = [];
  phase: Phase = 'waiting';
  /** Place in the order of arrival. */
  arrival = 0;
  /** Tokens whose keys and values are in the cache, or will be with the step now put together. */
  computed = 0;
  /** Prompt tokens whose scores were handed out. */
  scored = 0;
  /** Tokens that the prefix cache had when it first began; undefined before. */
  cachedTokens: number | undefined;

  constructor({ id, prompt, generated = [], maxTokens, mixture, tenant = '', scoresPrompt }: SequenceOptions) {
    this.id = id;
    this.tokens = [...prompt, ...generated];
    this.promptLength = prompt.length;
    this.maxTokens = maxTokens;
    this.mixture = mixture;
    this.experts = mixture.map(({ slot }) => slot).sort((a, b) => a - b);
    this.tenant = tenant;
    this.scoresPrompt = scoresPrompt;
  }

  get generated(): number {
    return this.tokens.length - this.promptLength;
  }

  /** Tokens not yet in the cache. */
  get pending(): number {
    return this.tokens.length - this.computed;
  }

  /** Whether the rows now to be computed belong to a prompt whose tokens are still to be scored. */
  get isScoring(): boolean {
    return this.scoresPrompt && this.scored < this.promptLength && this.computed < this.promptLength;
  }

  /** First tokens whose rows nobody needs, so that the cache may have them: never the last one, which predicts the next. */
  get reusable(): number {
    const unscored = this.scoresPrompt && this.scored < this.promptLength;
    return unscored ? Math.max(0, this.scored - 1) : this.tokens.length - 1;
  }
}
