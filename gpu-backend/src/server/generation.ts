/**
 * From a checked request to pieces of text: limits, experts, the engine, detokenisation, stop strings.
 */
import { ApiError, type Digest, type FinishReason, type Usage } from '@signpost/contracts';
import { samplingParams, type Tokenizer, type TokenScore } from '@signpost/engine';
import type { ResolvedTerm } from '../experts/catalogue-watch.ts';
import type { Speech } from '../experts/tokenizers.ts';
import type { EngineClient } from '../runner/engine-client.ts';
import type { GenerationRequest } from '../runner/protocol.ts';
import type { RequestSummary } from '../runner/request-watch.ts';
import { StopFilter } from './stop-filter.ts';

export interface GenerationDeps {
  readonly engine: EngineClient;
  /** Most tokens of an answer whose request doesn't say. */
  readonly defaultMaxTokens: number;
}

/** Who is to answer, and how they are spoken to. */
export interface Addressee extends Speech {
  readonly mixture: readonly ResolvedTerm[];
}

/** The fields chat and completions share. */
export interface GenerationFields {
  readonly model: string;
  /** Where the request has its prompt. */
  readonly promptField: 'messages' | 'prompt';
  readonly maxTokens: number | undefined;
  readonly temperature: number | null | undefined;
  readonly top_p: number | null | undefined;
  readonly seed: number | null | undefined;
  readonly stop: string | string[] | null | undefined;
}

/** What holds for a request beside its body. */
export interface RequestLimits {
  /** On whose behalf it is asked; '' for nobody in particular. */
  readonly tenant: string;
  /** What it may take; as long as the region allows where it doesn't say. */
  readonly timeoutMs: number | undefined;
}

export interface Scoring {
  readonly scoresPrompt: boolean;
  readonly logprobs: number | undefined;
}

/** One step of an answer. */
export interface Piece {
  /** Text that became certain; may be empty. */
  readonly text: string;
  /** The token behind it, and what it scored. */
  readonly token?: { readonly id: number; readonly score: TokenScore | undefined };
  /** Scores of prompt tokens. */
  readonly promptScores?: readonly (TokenScore | null)[];
  /** On the last piece. */
  readonly finish?: FinishReason;
}

/** A request that may be run: what can be refused beforehand has been, but for a full region. */
export class Generation {
  readonly #deps: GenerationDeps;
  readonly #tokenizer: Tokenizer;
  readonly #request: Omit<GenerationRequest, 'id'>;
  readonly #stops: readonly string[];
  readonly #summaries: RequestSummary[] = [];
  #completionTokens = 0;
  #cachedTokens = 0;

  private constructor(
    deps: GenerationDeps,
    tokenizer: Tokenizer,
    request: Omit<GenerationRequest, 'id'>,
    stops: readonly string[],
  ) {
    this.#deps = deps;
    this.#tokenizer = tokenizer;
    this.#request = request;
    this.#stops = stops;
  }

  /**
   * @throws ApiError (400) for a prompt that is empty, beyond the context, or has tokens that the addressee doesn't know.
   */
  static prepare(
    deps: GenerationDeps,
    { mixture, tokenizer, vocabSize }: Addressee,
    prompt: readonly number[],
    fields: GenerationFields & RequestLimits,
    scoring: Scoring,
  ): Generation {
    checkPrompt(vocabSize, prompt, fields);
    const request = {
      prompt,
      generated: [],
      tenant: fields.tenant,
      timeoutMs: fields.timeoutMs,
      maxTokens: maxTokensOf(deps, prompt.length, fields),
      mixture,
      sampling: samplingParams({
        temperature: fields.temperature ?? 1,
        topP: fields.top_p ?? 1,
        seed: fields.seed ?? Math.floor(Math.random() * 2 ** 32),
      }),
      stopIds: [...tokenizer.eosIds],
      ...scoring,
    };
    const stops = fields.stop == null ? [] : [fields.stop].flat();
    return new Generation(deps, tokenizer, request, stops);
  }

  /** Digests of the experts that answer, in the order of the model name. */
  get digests(): readonly Digest[] {
    return this.#request.mixture.map(({ version }) => version.digest);
  }

  get usage(): Usage {
    const [prompt, completion] = [this.#request.prompt.length, this.#completionTokens];
    return {
      prompt_tokens: prompt,
      completion_tokens: completion,
      total_tokens: prompt + completion,
      prompt_tokens_details: { cached_tokens: this.#cachedTokens },
    };
  }

  /** What became of what the engine has ended for it. */
  get summaries(): readonly RequestSummary[] {
    return this.#summaries;
  }

  /** Runs it. Ending the loop early, or the signal, stops the engine's work within one step. */
  async *pieces(signal: AbortSignal): AsyncGenerator<Piece> {
    const onEnd = (summary: RequestSummary) => this.#summaries.push(summary);
    const stream = this.#tokenizer.stream();
    const filter = new StopFilter(this.#stops);
    for await (const event of this.#deps.engine.generate(this.#request, signal, onEnd)) {
      switch (event.kind) {
        case 'started':
          this.#cachedTokens = event.cachedTokens;
          break;
        case 'scored':
          yield { text: '', promptScores: event.scores };
          break;
        case 'token': {
          this.#completionTokens++;
          const text = filter.push(stream.push(event.token));
          const token = { id: event.token, score: event.score };
          if (filter.isStopped) return yield { text, token, finish: 'stop' };
          yield { text, token };
          break;
        }
        case 'finished': {
          const last = filter.push(stream.flush());
          yield { text: last + filter.flush(), finish: filter.isStopped ? 'stop' : event.reason };
          break;
        }
        default:
          event satisfies never;
      }
    }
  }
}

function checkPrompt(vocabSize: number, prompt: readonly number[], { promptField: param }: GenerationFields): void {
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
  { maxTokens: asked, promptField }: GenerationFields,
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
  return asked ?? Math.min(defaultMaxTokens, context - prompt);
}
