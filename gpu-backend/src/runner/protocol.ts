/**
 * What crosses between the HTTP thread and the engine's worker thread. Plain data: it is structured-cloned.
 */
import type { Digest, ErrorType, ExpertVersion } from '@signpost/contracts';
import type { DeviceName, GpuSettings, GrammarSpec, SamplingParams, TokenScore, WeightFormat } from '@signpost/engine';
import type { Usage } from '../experts/demand.ts';
import type { PagingState, Tier } from '../experts/paging.ts';
import type { Standing } from '../experts/prefetch.ts';
import type { ResidencyState } from '../experts/residency.ts';

export interface EngineOptions {
  /** Base checkpoint folder. */
  readonly base: string;
  /** Store URL of the experts. */
  readonly store: string;
  readonly device: DeviceName;
  /** Of device `webgpu`. */
  readonly gpu: Omit<GpuSettings, 'shared'>;
  /** How the base's weights are held. */
  readonly weights: WeightFormat;
  /** Expert slots. */
  readonly slots: number;
  /** Bytes of delta files kept in memory. */
  readonly hostCacheBytes: number;
  /** Where delta files are kept beyond a restart, and how many bytes of them; undefined for nowhere. */
  readonly diskCache: { readonly dir: string; readonly bytes: number } | undefined;
  /** Tokens that the KV cache holds. */
  readonly kvTokens: number;
  /** Most rows of one step. */
  readonly maxStepTokens: number;
  /** Most sequences that run at once. */
  readonly maxSequences: number;
  /** Most experts that one step reads; the base is not counted. */
  readonly maxStepExperts: number;
  /** Most tokens of an answer between two readings of what the device has chosen, where nothing else has work to do. */
  readonly decodeSteps: number;
  /** Tokens of one block of the KV cache: what the prefix cache shares, and what a sequence takes at a time. */
  readonly blockTokens: number;
}

export interface GenerationRequest {
  readonly id: number;
  readonly prompt: readonly number[];
  /** What an earlier run of this request has answered so far: its last tokens are the next ones' context, not sent again. */
  readonly generated: readonly number[];
  /** Longest answer, `generated` included. */
  readonly maxTokens: number;
  /** Who asks, for fairness: requests of one tenant share its turns. Any string; those without one share the empty one. */
  readonly tenant: string;
  /** What it may take from submission to its last token; then it fails. Undefined for as long as it takes. */
  readonly timeoutMs: number | undefined;
  /** Experts and weights; none is the base. */
  readonly mixture: readonly { readonly version: ExpertVersion; readonly weight: number }[];
  readonly sampling: SamplingParams;
  /** What the answer is held to. */
  readonly grammar?: GrammarSpec;
  /** Tokens that end the answer; they are not part of it. */
  readonly stopIds: readonly number[];
  /** Log-probabilities of prompt tokens, too. */
  readonly scoresPrompt: boolean;
  /** Log-probability of each token, and of so many likeliest ones in its place. */
  readonly logprobs: number | undefined;
}

/** What is asked of the engine and answered once. */
export interface EngineCalls {
  readonly stats: { readonly ask: undefined; readonly answer: RegionStats };
  /** Of the experts asked about; undefined for one that was never asked for. */
  readonly usage: { readonly ask: readonly Digest[]; readonly answer: readonly (Usage | undefined)[] };
  /** Brings an expert into a slot. */
  readonly load: {
    readonly ask: { readonly version: ExpertVersion; readonly timeoutMs: number };
    readonly answer: { readonly ms: number };
  };
  /** Forgets an expert; answers where it was. */
  readonly evict: { readonly ask: Digest; readonly answer: readonly Tier[] };
}

export type EngineCall = {
  readonly [Name in keyof EngineCalls]: {
    readonly kind: 'call';
    readonly call: number;
    readonly name: Name;
    readonly ask: EngineCalls[Name]['ask'];
  };
}[keyof EngineCalls];

export type ToWorker =
  /** The first: the base's digest, if somebody else has it. */
  | { readonly kind: 'base'; readonly digest: Digest | undefined }
  | { readonly kind: 'submit'; readonly request: GenerationRequest }
  | { readonly kind: 'abort'; readonly id: number }
  | EngineCall
  /** What the region is to have at hand from now on. */
  | { readonly kind: 'keep'; readonly standing: Standing }
  /** What may be asked for soon. */
  | { readonly kind: 'hint'; readonly versions: readonly ExpertVersion[] }
  /** Ends the thread, between two steps. */
  | { readonly kind: 'close' };

/** What happens to one request, in order; `finished` or `failed` is the last. */
export type GenerationEvent =
  /** Its first tokens are about to be computed. */
  | {
      readonly kind: 'started';
      /** Tokens, of the prompt and `generated`, that the prefix cache had. */
      readonly cachedTokens: number;
    }
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
  /** What the base's weights take in memory, and how long they took to get there. */
  readonly weightBytes: number;
  /** What a device with memory of its own has set aside, the weights included; undefined on one without. */
  readonly deviceBytes: number | undefined;
  readonly loadMs: number;
  readonly vocabSize: number;
  readonly maxPositions: number;
  /** Tokens that the KV cache holds. */
  readonly kvTokens: number;
}

/** What the engine holds now, and what it has done since it started (`…Total`). */
export interface EngineStats {
  readonly running: number;
  readonly waiting: number;
  /** Requests by the experts that answer them; one under a mixture is counted under each of its experts, the base's nowhere. */
  readonly experts: readonly ExpertLoad[];
  readonly kvBlocks: number;
  /** Blocks that no sequence holds; those with a prefix to share are among them. */
  readonly kvBlocksFree: number;
  readonly residency: ResidencyState;
  readonly preemptionsTotal: number;
  /** Tokens looked up in the prefix cache when a sequence was started, and those it had. */
  readonly prefixQueriesTotal: number;
  readonly prefixHitsTotal: number;
}

/** With what the machine beneath the engine holds. */
export interface RegionStats extends EngineStats, PagingState {}

export interface ExpertLoad {
  readonly digest: Digest;
  readonly running: number;
  readonly waiting: number;
}

/** One step of the model. */
export interface StepStats {
  readonly durationMs: number;
  readonly prefillTokens: number;
  readonly decodeTokens: number;
  /** Distinct experts that it read. */
  readonly experts: number;
  readonly running: number;
  readonly waiting: number;
  readonly kvBlocksFree: number;
  readonly preemptions: number;
  readonly prefixQueries: number;
  readonly prefixHits: number;
}

export interface RequestEvent {
  readonly id: number;
  readonly event: GenerationEvent;
}

export type FromWorker =
  /** So much of the base's checkpoint is in. */
  | { readonly kind: 'loading'; readonly bytes: number; readonly totalBytes: number }
  /** So many of the device's kernels are compiled. */
  | { readonly kind: 'compiling'; readonly compiled: number; readonly total: number }
  | { readonly kind: 'ready'; readonly facts: EngineFacts }
  /** What has happened since the last message; `step` where it comes of a step. */
  | { readonly kind: 'events'; readonly events: readonly RequestEvent[]; readonly step?: StepStats }
  | { readonly kind: 'answer'; readonly call: number; readonly answer: EngineCalls[keyof EngineCalls]['answer'] }
  | { readonly kind: 'refusal'; readonly call: number; readonly error: SerialisedError }
  /** An expert has come to a slot or into memory, gone, or is on its way into a slot. */
  | { readonly kind: 'residency' }
  /** For the log: what went wrong without harm to a request. */
  | { readonly kind: 'problem'; readonly problem: string };
