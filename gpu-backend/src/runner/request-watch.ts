/**
 * What became of one request, gathered from its events as they arrive: what metrics and traces tell of it.
 *
 * Times are taken in the HTTP thread, so that requests which are aborted or fail have them, too.
 */
import type { Digest } from '@signpost/contracts';
import type { GenerationEvent, GenerationRequest, StepStats } from './protocol.ts';

/** `abort`: the app went away; `stop` also where a stop string ended it. */
export type RequestOutcome = 'stop' | 'length' | 'abort' | 'error';

export interface RequestSummary {
  /** None is the base. */
  readonly experts: readonly Digest[];
  readonly promptTokens: number;
  /** Of the prompt, in the prefix cache. */
  readonly cachedTokens: number;
  /** By this request, not by what it resumes. */
  readonly generatedTokens: number;
  readonly maxTokens: number;
  readonly outcome: RequestOutcome;
  /** By `performance.now()`. */
  readonly submitted: number;
  /** Milliseconds from then on; undefined for what it didn't come to. */
  readonly startedMs: number | undefined;
  readonly firstTokenMs: number | undefined;
  readonly finishedMs: number;
}

/** Who is told of what the engine does. */
export interface EngineObserver {
  onStep(step: StepStats): void;
  /** `sinceLastMs`: from the token before it; undefined for an answer's first. */
  onToken(sinceLastMs: number | undefined): void;
  onRequestEnd(summary: RequestSummary): void;
}

export class RequestWatch {
  readonly #request: Pick<GenerationRequest, 'mixture' | 'prompt' | 'maxTokens'>;
  readonly #submitted = performance.now();
  #cachedTokens = 0;
  #generatedTokens = 0;
  #startedMs: number | undefined;
  #firstTokenMs: number | undefined;
  #lastTokenMs: number | undefined;
  #outcome: RequestOutcome | undefined;

  constructor(request: Pick<GenerationRequest, 'mixture' | 'prompt' | 'maxTokens'>) {
    this.#request = request;
  }

  see(event: GenerationEvent, observer: EngineObserver | undefined): void {
    const ms = performance.now() - this.#submitted;
    switch (event.kind) {
      case 'started':
        this.#startedMs = ms;
        this.#cachedTokens = event.cachedTokens;
        return;
      case 'token':
        observer?.onToken(this.#lastTokenMs === undefined ? undefined : ms - this.#lastTokenMs);
        this.#generatedTokens++;
        this.#firstTokenMs ??= ms;
        this.#lastTokenMs = ms;
        return;
      case 'finished':
        this.#outcome = event.reason;
        return;
      case 'failed':
        this.#outcome = 'error';
        return;
      case 'scored':
        return;
      default:
        event satisfies never;
    }
  }

  /** @param left how it ended where no event said so. */
  end(left: RequestOutcome): RequestSummary {
    const { mixture, prompt, maxTokens } = this.#request;
    return {
      experts: mixture.map(({ version }) => version.digest),
      promptTokens: prompt.length,
      cachedTokens: Math.min(this.#cachedTokens, prompt.length),
      generatedTokens: this.#generatedTokens,
      maxTokens,
      outcome: this.#outcome ?? left,
      submitted: this.#submitted,
      startedMs: this.#startedMs,
      firstTokenMs: this.#firstTokenMs,
      finishedMs: performance.now() - this.#submitted,
    };
  }
}
