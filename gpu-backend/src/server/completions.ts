/**
 * `POST /v1/completions`: the wire format around a generation, with log-probabilities and scoring of prompts.
 */
import { ApiError, type Completion, type CompletionLogprobs, type CompletionRequest } from '@signpost/contracts';
import type { Tokenizer, TokenScore } from '@signpost/engine';
import type { AnswerIdentity } from './chat.ts';
import type { Generation, GenerationFields, Piece, Scoring } from './generation.ts';

/** OpenAI's default for this endpoint. */
const DEFAULT_MAX_TOKENS = 16;

export function completionPrompt(tokenizer: Tokenizer, { prompt }: CompletionRequest): readonly number[] {
  return typeof prompt === 'string' ? tokenizer.encode(prompt) : prompt;
}

export function completionFields(request: CompletionRequest): GenerationFields {
  const { model, temperature, top_p, seed, stop } = request;
  const maxTokens = request.max_tokens ?? DEFAULT_MAX_TOKENS;
  return { model, promptField: 'prompt', temperature, top_p, seed, stop, maxTokens };
}

/** @throws ApiError (400) for a request that would do nothing. */
export function completionScoring({ echo, logprobs, max_tokens }: CompletionRequest): Scoring {
  if (max_tokens === 0 && echo !== true) {
    throw new ApiError('invalid_request_error', 'invalid_value', 'max_tokens 0 only makes sense with echo', {
      param: 'max_tokens',
    });
  }
  return { scoresPrompt: echo === true && logprobs != null, logprobs: logprobs ?? undefined };
}

export async function completion(
  generation: Generation,
  identity: AnswerIdentity,
  writer: CompletionWriter,
  signal: AbortSignal,
): Promise<Completion> {
  let text = writer.prompt;
  let finish: Completion['choices'][number]['finish_reason'] = null;
  const entries: LogprobEntry[] = [];
  for await (const piece of generation.pieces(signal)) {
    text += piece.text;
    entries.push(...writer.entries(piece));
    finish = piece.finish ?? finish;
  }
  const choice = { index: 0 as const, text, logprobs: writer.logprobs(entries), finish_reason: finish };
  return { ...identity, object: 'text_completion', choices: [choice], usage: generation.usage };
}

export async function* completionChunks(
  generation: Generation,
  identity: AnswerIdentity,
  writer: CompletionWriter,
  includeUsage: boolean,
  signal: AbortSignal,
): AsyncGenerator<Completion> {
  const usage = includeUsage ? { usage: null } : {};
  let prefix = writer.prompt;
  for await (const piece of generation.pieces(signal)) {
    const text = prefix + piece.text;
    prefix = '';
    const logprobs = writer.logprobs(writer.entries(piece));
    if (text === '' && logprobs === null && piece.finish === undefined) continue;
    yield {
      ...identity,
      object: 'text_completion',
      choices: [{ index: 0, text, logprobs, finish_reason: piece.finish ?? null }],
      ...usage,
    };
  }
  if (includeUsage) yield { ...identity, object: 'text_completion', choices: [], usage: generation.usage };
}

interface LogprobEntry {
  readonly id: number;
  readonly score: TokenScore | null;
}

/** Turns tokens and scores into the completions format; one for each answer, since offsets run on through it. */
export class CompletionWriter {
  /** The prompt's text, where it is echoed. */
  readonly prompt: string;
  readonly #tokenizer: Tokenizer;
  readonly #promptIds: readonly number[];
  readonly #wantsLogprobs: boolean;
  #promptTokens = 0;
  #offset = 0;

  constructor(tokenizer: Tokenizer, request: CompletionRequest, promptIds: readonly number[]) {
    this.#tokenizer = tokenizer;
    this.#promptIds = promptIds;
    this.#wantsLogprobs = request.logprobs != null;
    const { prompt } = request;
    this.prompt = request.echo !== true ? '' : typeof prompt === 'string' ? prompt : tokenizer.decode(prompt);
  }

  entries({ promptScores = [], token }: Piece): LogprobEntry[] {
    const entries = promptScores.map((score) => ({ id: this.#promptIds[this.#promptTokens++] ?? -1, score }));
    return token === undefined ? entries : [...entries, { id: token.id, score: token.score ?? null }];
  }

  logprobs(entries: readonly LogprobEntry[]): CompletionLogprobs | null {
    if (!this.#wantsLogprobs) return null;
    const tokens = entries.map(({ id }) => this.#tokenizer.tokenText(id));
    const offsets = tokens.map((text) => {
      const at = this.#offset;
      this.#offset += text.length;
      return at;
    });
    const top = entries.map(({ score }) =>
      score === null || score.top.length === 0
        ? null
        : Object.fromEntries(score.top.map(({ id, logprob }) => [this.#tokenizer.tokenText(id), logprob])),
    );
    return {
      tokens,
      token_logprobs: entries.map(({ score }) => score?.logprob ?? null),
      text_offset: offsets,
      top_logprobs: top.some((entry) => entry !== null) ? top : null,
    };
  }
}
