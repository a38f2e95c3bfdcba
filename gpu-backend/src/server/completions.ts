/**
 * `POST /v1/completions`: the wire format around a generation, with log-probabilities and scoring of prompts.
 */
import {
  type Completion,
  type CompletionChoice,
  type CompletionLogprobs,
  type CompletionRequest,
  type Prompt,
  promptsOf,
} from '@signpost/contracts';
import type { Tokenizer, TokenScore } from '@signpost/engine';
import type { AnswerIdentity } from './chat.ts';
import { finite } from './chat-writer.ts';
import type { Piece } from './choice.ts';
import { requestedFormat } from './formats.ts';
import { type Addressee, Generation, type GenerationDeps, type RequestLimits } from './generation.ts';

/** OpenAI's default for this endpoint. */
const DEFAULT_MAX_TOKENS = 16;

export interface TextCompletion {
  readonly generation: Generation;
  readonly request: CompletionRequest;
}

/** @throws ApiError (400) for what can't be answered. */
export function prepareCompletion(
  deps: GenerationDeps,
  addressee: Addressee,
  request: CompletionRequest,
  limits: RequestLimits,
): TextCompletion {
  const { tokenizer } = addressee;
  const { prompt, max_tokens, echo, logprobs } = request;
  const asked = {
    fields: request,
    promptField: 'prompt' as const,
    prompts: promptsOf(prompt).map((one) => (typeof one === 'string' ? tokenizer.encode(one) : one)),
    maxTokens: max_tokens ?? DEFAULT_MAX_TOKENS,
    scoresPrompt: echo === true && logprobs != null,
    logprobs: logprobs ?? undefined,
    grammar: requestedFormat(request),
  };
  return { generation: Generation.prepare(deps, addressee, asked, limits), request };
}

export async function completion(
  { generation, request }: TextCompletion,
  identity: AnswerIdentity,
  signal: AbortSignal,
): Promise<Completion> {
  const answers = writers({ generation, request }).map((writer) => ({
    writer,
    text: writer.prompt,
    entries: [] as LogprobEntry[],
    tokens: [] as number[],
    finish: null as CompletionChoice['finish_reason'],
  }));
  for await (const piece of generation.pieces(signal)) {
    const answer = answers[piece.index];
    if (answer === undefined) continue;
    answer.entries.push(...answer.writer.entries(piece));
    if (piece.isReplayed !== true) answer.text += piece.text;
    if (piece.token !== undefined) answer.tokens.push(piece.token.id);
    answer.finish = piece.finish ?? answer.finish;
  }
  const choices = answers.map(
    ({ writer, text, entries, tokens, finish }, index): CompletionChoice => ({
      index,
      text,
      logprobs: writer.logprobs(entries),
      finish_reason: finish,
      ...(request.return_token_ids === true ? { token_ids: tokens, prompt_token_ids: generation.promptOf(index) } : {}),
    }),
  );
  return { ...identity, object: 'text_completion', choices, usage: generation.usage };
}

export async function* completionChunks(
  { generation, request }: TextCompletion,
  identity: AnswerIdentity,
  signal: AbortSignal,
): AsyncGenerator<Completion> {
  const includeUsage = request.stream_options?.include_usage === true;
  const usage = includeUsage ? { usage: null } : {};
  const object = 'text_completion' as const;
  const answers = writers({ generation, request });
  const begun = new Set(request.resume_token_ids == null ? [] : answers.keys());
  for await (const piece of generation.pieces(signal)) {
    const { index } = piece;
    const writer = answers[index];
    if (writer === undefined) continue;
    const entries = writer.entries(piece);
    if (piece.isReplayed === true) continue;
    const isFirst = !begun.has(index);
    begun.add(index);
    const text = (isFirst ? writer.prompt : '') + piece.text;
    const logprobs = writer.logprobs(entries);
    const { token, finish } = piece;
    const tokens =
      request.return_token_ids !== true
        ? {}
        : {
            token_ids: token === undefined ? [] : [token.id],
            ...(isFirst ? { prompt_token_ids: generation.promptOf(index) } : {}),
          };
    const isTold = token !== undefined && request.return_token_ids === true;
    if (text === '' && logprobs === null && finish === undefined && !isTold) continue;
    const choice = { index, text, logprobs, finish_reason: finish ?? null, ...tokens };
    yield { ...identity, object, choices: [choice], ...usage };
  }
  if (includeUsage) yield { ...identity, object, choices: [], usage: generation.usage };
}

function writers({ generation, request }: TextCompletion): CompletionWriter[] {
  const prompts = promptsOf(request.prompt);
  return Array.from({ length: generation.choices }, (_, choice) => {
    const prompt = prompts[Math.floor(choice / (request.n ?? 1))] ?? '';
    return new CompletionWriter(generation.tokenizer, request, prompt, generation.promptOf(choice));
  });
}

interface LogprobEntry {
  readonly id: number;
  readonly score: TokenScore | null;
}

/** Turns tokens and scores into the completions format; one for each choice, since offsets run on through it. */
class CompletionWriter {
  /** The prompt's text, where it is echoed. */
  readonly prompt: string;
  readonly #tokenizer: Tokenizer;
  readonly #promptIds: readonly number[];
  readonly #wantsLogprobs: boolean;
  #promptTokens = 0;
  #offset = 0;

  constructor(tokenizer: Tokenizer, request: CompletionRequest, prompt: Prompt, promptIds: readonly number[]) {
    this.#tokenizer = tokenizer;
    this.#promptIds = promptIds;
    this.#wantsLogprobs = request.logprobs != null;
    // Tokens that were sent before are counted, not told of again.
    for (const id of request.resume_token_ids ?? []) this.#offset += tokenizer.tokenText(id).length;
    this.prompt = request.echo !== true ? '' : typeof prompt === 'string' ? prompt : tokenizer.decode(prompt);
  }

  entries({ promptScores = [], token }: Piece): LogprobEntry[] {
    const entries = promptScores.map((score) => ({ id: this.#promptIds[this.#promptTokens++] ?? -1, score }));
    return token === undefined ? entries : [...entries, { id: token.id, score: token.score ?? null }];
  }

  logprobs(entries: readonly LogprobEntry[]): CompletionLogprobs | null {
    if (!this.#wantsLogprobs || entries.length === 0) return null;
    const tokens = entries.map(({ id }) => this.#tokenizer.tokenText(id));
    const offsets = tokens.map((text) => {
      const at = this.#offset;
      this.#offset += text.length;
      return at;
    });
    // The token itself stands among them, likely or not.
    const top = entries.map(({ id: chosen, score }) =>
      score === null || score.top.length === 0
        ? null
        : Object.fromEntries(
            [...score.top, { id: chosen, logprob: score.logprob }].map(({ id, logprob }) => [
              this.#tokenizer.tokenText(id),
              finite(logprob),
            ]),
          ),
    );
    return {
      tokens,
      token_logprobs: entries.map(({ score }) => (score === null ? null : finite(score.logprob))),
      text_offset: offsets,
      top_logprobs: top.some((entry) => entry !== null) ? top : null,
    };
  }
}
