/**
 * What crosses between the HTTP thread and the engine's worker thread. Plain data: it is structured-cloned.
 */
import type { Digest, ErrorType, ExpertVersion } from '@signpost/contracts';
import type { DeviceName, SamplingParams, TokenScore } from '@signpost/engine';

export interface EngineOptions {
  /** Base checkpoint folder. */
  readonly base: string;
  /** Store URL of the experts. */
  readonly store: string;
  readonly device: DeviceName;
  /** Expert slots. */
  readonly slots: number;
  /** Tokens that the KV cache holds. */
  readonly kvTokens: number;
  /** Most rows of one step. */
  readonly maxStepTokens: number;
  /** Most sequences that run at once. */
  readonly maxSequences: number;
}

export interface GenerationRequest {
  readonly id: number;
  readonly prompt: readonly number[];
  /** The answer's tokens so far, where it was begun elsewhere; they count towards `maxTokens`, and no event repeats them. */
  readonly generated: readonly number[];
  readonly maxTokens: number;
  /** Experts and weights; none is the base. */
  readonly mixture: readonly { readonly version: ExpertVersion; readonly weight: number }[];
  readonly sampling: SamplingParams;
  /** Tokens that end the answer; they are not part of it. */
  readonly stopIds: readonly number[];
  /** Log-probabilities of prompt tokens, too. */
  readonly scoresPrompt: boolean;
  /** Log-probability of each token, and of so many likeliest ones in its place. */
  readonly logprobs: number | undefined;
}

export type ToWorker =
  | { readonly kind: 'submit'; readonly request: GenerationRequest }
  | { readonly kind: 'abort'; readonly id: number }
  | { readonly kind: 'stats'; readonly call: number }
  /** Ends the thread, between two steps. */
  | { readonly kind: 'close' };

/** What happens to one request, in order; `finished` or `failed` is the last. */
export type GenerationEvent =
  /** Scores of the next prompt tokens; a prompt's first token has none. */
  | { readonly kind: 'scored'; readonly scores: readonly (TokenScore | null)[] }
  | { readonly kind: 'token'; readonly token: number; readonly score?: TokenScore }
  | { readonly kind: 'finished'; readonly reason: 'stop' | 'length' }
  | { readonly kind: 'failed'; readonly error: SerialisedError };

/** An ApiError on its way to the other thread. */
export interface SerialisedError {
  readonly type: ErrorType;
  readonly code: string;
  readonly message: string;
  readonly status: number;
  readonly param: string | null;
  /** What is for the log only. */
  readonly detail: string;
}

export interface EngineFacts {
  readonly base: Digest;
  readonly vocabSize: number;
  readonly maxPositions: number;
  /** Tokens that the KV cache holds. */
  readonly kvTokens: number;
}

export interface EngineStats {
  readonly running: number;
  readonly waiting: number;
  readonly kvBlocks: number;
  readonly kvBlocksFree: number;
  readonly slots: number;
  readonly slotsFree: number;
  readonly resident: readonly Digest[];
  readonly loading: readonly Digest[];
}

export type FromWorker =
  | { readonly kind: 'ready'; readonly facts: EngineFacts }
  | { readonly kind: 'events'; readonly events: readonly { readonly id: number; readonly event: GenerationEvent }[] }
  | { readonly kind: 'stats'; readonly call: number; readonly stats: EngineStats };
