/**
 * From a checked request to pieces of text: limits, experts, sampling, the choices of an answer.
 */
import { ApiError, type Digest, type GenerationFields, type Usage } from '@signpost/contracts';
import {
  type GrammarSpec,
  type SamplingParams,
  samplingParams,
  type Tokenizer,
  type ToolCallFormat,
} from '@signpost/engine';
import type { ResolvedTerm } from '../experts/catalogue-watch.ts';
import type { Speech } from '../experts/tokenizers.ts';
import type { EngineClient } from '../runner/engine-client.ts';
import type { RequestSummary } from '../runner/request-watch.ts';
import { Choice, type Piece } from './choice.ts';
import { merge } from './merge.ts';

export interface GenerationDeps {
  readonly engine: EngineClient;
  /** Most tokens of an answer whose request doesn't say. */
  readonly defaultMaxTokens: number;
}

/** Who is to answer, and how they are spoken to. */
export interface Addressee extends Speech {
  readonly mixture: readonly ResolvedTerm[];
}

/** What holds for a request beside its body. */
export interface RequestLimits {
  /** On whose behalf it is asked; '' for nobody in particular. */
  readonly tenant: string;
  /** What it may take; as long as the region allows where it doesn't say. */
  readonly timeoutMs: number | undefined;
}

/** What a request asks for, once its own endpoint has read it. */
export interface AnswerSpec {
  /** As the request has them. */
  readonly fields: GenerationFields;
  /** Where the request has its prompt. */
  readonly promptField: 'messages' | 'prompt';
  readonly prompts: readonly (readonly number[])[];
  readonly maxTokens: number | undefined;
  readonly scoresPrompt: boolean;
  /** Alternatives to score beside each token; undefined for no scores. */
  readonly logprobs: number | undefined;
  /** What the answer is held to. */
  readonly grammar?: GrammarSpec | undefined;
  /** How the answer may call tools. */
  readonly toolFormat?: ToolCallFormat | undefined;
}

/** A piece of one choice. */
export interface ChoicePiece extends Piece {
  readonly index: number;
}

/** A request that may be run: what can be refused beforehand has been, but for a full region. */
export class Generation {
  readonly tokenizer: Tokenizer;
  /** Digests of the experts that answer, in the order of the model name. */
  readonly digests: readonly Digest[];
  readonly prompts: readonly (readonly number[])[];
  readonly fields: GenerationFields;
  readonly #choices: readonly Choice[];

  private constructor({ mixture, tokenizer }: Addressee, { prompts, fields }: AnswerSpec, choices: readonly Choice[]) {
    this.tokenizer = tokenizer;
    this.digests = mixture.map(({ version }) => version.digest);
    this.prompts = prompts;
    this.fields = fields;
    this.#choices = choices;
  }

  /**
   * @throws ApiError (400) for a prompt that is empty, beyond the context, or has tokens that the addressee doesn't know, and for a format that isn't
   *   supported.
   */
  static prepare(deps: GenerationDeps, addressee: Addressee, asked: AnswerSpec, limits: RequestLimits): Generation {
    const { mixture, tokenizer, vocabSize } = addressee;
    const { fields, prompts, grammar, scoresPrompt, logprobs } = asked;
    checkTokens(vocabSize, fields);
    const generated = fields.resume_token_ids ?? [];
    const seed = fields.seed ?? Math.floor(Math.random() * 2 ** 32);
    const text = {
      stops: fields.stop == null ? [] : [fields.stop].flat(),
      stopString: fields.include_stop_str_in_output === true ? ('kept' as const) : ('dropped' as const),
      minTokens: fields.min_tokens ?? 0,
    };
    const stopIds = [...(fields.ignore_eos === true ? [] : tokenizer.eosIds), ...(fields.stop_token_ids ?? [])];
    const choices = prompts.flatMap((prompt) => {
      checkPrompt(vocabSize, prompt, asked);
      const maxTokens = maxTokensOf(deps, prompt.length, asked);
      const request = {
        prompt,
        generated,
        maxTokens,
        ...limits,
        mixture,
        stopIds,
        scoresPrompt,
        logprobs,
      };
      return Array.from({ length: fields.n ?? 1 }, (_, choice) => {
        const sampling = samplingOf(fields, seed, choice);
        const whole = { ...request, sampling, ...(grammar === undefined ? {} : { grammar }) };
        return new Choice(deps.engine, whole, () => tokenizer.stream(asked.toolFormat), text);
      });
    });
    return new Generation(addressee, asked, choices);
  }

  get choices(): number {
    return this.#choices.length;
  }

  /** The prompt that a choice answers: each has `n` of them, one after the other. */
  promptOf(choice: number): readonly number[] {
    return this.prompts[Math.floor(choice / (this.fields.n ?? 1))] ?? [];
  }

  get usage(): Usage {
    const sum = (values: readonly number[]) => values.reduce((total, value) => total + value, 0);
    const prompt = sum(this.prompts.map(({ length }) => length));
    const completion = sum(this.#choices.map(({ completionTokens }) => completionTokens));
    // A prompt's first choice: what the others find in the cache is the first one's.
    const first = this.#choices.filter((_, i) => i % (this.fields.n ?? 1) === 0);
    return {
      prompt_tokens: prompt,
      completion_tokens: completion,
      total_tokens: prompt + completion,
      prompt_tokens_details: { cached_tokens: sum(first.map(({ cachedTokens }) => cachedTokens)) },
    };
  }

  /** What became of what the engine has ended for it. */
  get summaries(): readonly RequestSummary[] {
    return this.#choices.flatMap(({ summary }) => summary ?? []);
  }

  /** Runs all choices at once. Ending the loop early, or the signal, stops the engine's work within one step. */
  async *pieces(signal: AbortSignal): AsyncGenerator<ChoicePiece> {
    const left = new AbortController();
    const both = AbortSignal.any([signal, left.signal]);
    try {
      for await (const { index, item } of merge(this.#choices.map((choice) => choice.pieces(both))))
        yield { index, ...item };
    } finally {
      left.abort(new Error('the answer is of no more use'));
    }
  }
}

function samplingOf(fields: GenerationFields, seed: number, choice: number): SamplingParams {
  return samplingParams({
    temperature: fields.temperature ?? 1,
    topP: fields.top_p ?? 1,
    topK: Math.max(0, fields.top_k ?? 0),
    minP: fields.min_p ?? 0,
    repetitionPenalty: fields.repetition_penalty ?? 1,
    presencePenalty: fields.presence_penalty ?? 0,
    frequencyPenalty: fields.frequency_penalty ?? 0,
    logitBias: Object.entries(fields.logit_bias ?? {}).map(([id, bias]) => [Number(id), bias] as const),
    minTokens: fields.min_tokens ?? 0,
    seed,
    choice,
  });
}

/** Whatever in a request names tokens beside its prompt. */
function checkTokens(vocabSize: number, fields: GenerationFields): void {
  const named = {
    logit_bias: Object.keys(fields.logit_bias ?? {}).map(Number),
    stop_token_ids: fields.stop_token_ids ?? [],
    resume_token_ids: fields.resume_token_ids ?? [],
  };
  for (const [param, ids] of Object.entries(named)) {
    const unknown = ids.find((id) => id >= vocabSize);
    if (unknown !== undefined) {
      const message = `${param}: token ${unknown} does not exist; the vocabulary has ${vocabSize}`;
      throw new ApiError('invalid_request_error', 'invalid_value', message, { param });
    }
  }
}

function checkPrompt(vocabSize: number, prompt: readonly number[], { promptField: param }: AnswerSpec): void {
  // What a tokenizer makes of text that it drops altogether.
  if (prompt.length === 0) {
    throw new ApiError('invalid_request_error', 'invalid_value', 'the prompt has no tokens', { param });
  }
  const position = prompt.findIndex((id) => id >= vocabSize);
  if (position !== -1) {
    throw new ApiError(
      'invalid_request_error',
      'invalid_value',
      `prompt[${position}]: token ${prompt[position]} does not exist; the vocabulary has ${vocabSize}`,
      { param },
    );
  }
}

function maxTokensOf(
  { engine, defaultMaxTokens }: GenerationDeps,
  prompt: number,
  { maxTokens: asked, promptField, fields }: AnswerSpec,
): number {
  const { maxPositions, kvTokens } = engine.facts;
  const context = Math.min(maxPositions, kvTokens);
  const limit =
    kvTokens < maxPositions
      ? `this region's KV cache holds ${kvTokens} (the model's context is ${maxPositions})`
      : `this model's context is ${maxPositions}`;
  // An answer needs a position; scoring alone does not.
  if (prompt + (asked === 0 ? 0 : 1) > context) {
    throw new ApiError(
      'invalid_request_error',
      'context_length_exceeded',
      `the prompt has ${prompt} tokens, ${limit}; shorten it`,
      { param: promptField },
    );
  }
  if (asked !== undefined && prompt + asked > context) {
    throw new ApiError(
      'invalid_request_error',
      'context_length_exceeded',
      `the prompt has ${prompt} tokens and ${asked} were asked for, ${limit}; ask for at most ${context - prompt}`,
      { param: 'max_tokens' },
    );
  }
  const resumed = fields.resume_token_ids?.length ?? 0;
  const maxTokens = asked ?? Math.min(defaultMaxTokens, context - prompt);
  if (resumed > maxTokens) {
    const message = `resume_token_ids has ${resumed} tokens, the answer may have ${maxTokens}`;
    throw new ApiError('invalid_request_error', 'invalid_value', message, { param: 'resume_token_ids' });
  }
  return maxTokens;
}
