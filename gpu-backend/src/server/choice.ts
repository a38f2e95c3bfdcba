/**
 * One choice of an answer: an engine request, and its tokens as text.
 */
import type { FinishReason } from '@signpost/contracts';
import type { StreamDecoder, TokenScore } from '@signpost/engine';
import type { EngineClient } from '../runner/engine-client.ts';
import type { GenerationRequest } from '../runner/protocol.ts';
import type { RequestSummary } from '../runner/request-watch.ts';
import { AnswerText, type TextOptions } from './answer-text.ts';

/** One step of an answer. */
export interface Piece {
  /** Text that became certain; may be empty. */
  readonly text: string;
  /** The token behind it, and what it scored. */
  readonly token?: { readonly id: number; readonly score: TokenScore | undefined };
  /** Scores of prompt tokens. */
  readonly promptScores?: readonly (TokenScore | null)[];
  /** On the last piece. */
  readonly finish?: Exclude<FinishReason, 'tool_calls'>;
  /** What was sent before the answer was resumed: for whoever keeps count, not to be sent again. */
  readonly isReplayed?: true;
}

export class Choice {
  readonly #engine: EngineClient;
  readonly #request: Omit<GenerationRequest, 'id'>;
  readonly #decoder: () => StreamDecoder;
  readonly #text: TextOptions;
  completionTokens = 0;
  cachedTokens = 0;
  /** What became of it, once the engine has ended it. */
  summary: RequestSummary | undefined;

  constructor(
    engine: EngineClient,
    request: Omit<GenerationRequest, 'id'>,
    decoder: () => StreamDecoder,
    text: TextOptions,
  ) {
    this.#engine = engine;
    this.#request = request;
    this.#decoder = decoder;
    this.#text = text;
  }

  /** Runs it. Ending the loop early, or the signal, stops the engine's work within one step. */
  async *pieces(signal: AbortSignal): AsyncGenerator<Piece> {
    const text = new AnswerText(this.#decoder(), this.#text);
    const { generated, maxTokens } = this.#request;
    if (generated.length > 0) {
      this.completionTokens = generated.length;
      yield { text: generated.map((token) => text.push(token)).join(''), isReplayed: true };
      // It broke off between its last token and the word that it was.
      if (text.isStopped) return yield { text: '', finish: 'stop' };
      if (generated.length >= maxTokens) return yield { text: text.end(), finish: text.isStopped ? 'stop' : 'length' };
    }
    const onEnd = (summary: RequestSummary) => {
      this.summary = summary;
    };
    for await (const event of this.#engine.generate(this.#request, signal, onEnd)) {
      switch (event.kind) {
        case 'started':
          this.cachedTokens = event.cachedTokens;
          break;
        case 'scored':
          yield { text: '', promptScores: event.scores };
          break;
        case 'token': {
          this.completionTokens++;
          yield { text: text.push(event.token), token: { id: event.token, score: event.score } };
          if (text.isStopped) return yield { text: '', finish: 'stop' };
          break;
        }
        case 'finished': {
          const last = text.end();
          yield { text: last, finish: text.isStopped ? 'stop' : event.reason };
          break;
        }
        default:
          event satisfies never;
      }
    }
  }
}
