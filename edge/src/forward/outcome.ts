/**
 * How the answer to one request ended: told once, whatever became of it.
 */
import type { ErrorBody } from '@signpost/contracts';
import type { StreamedAnswer, WholeAnswer } from './upstream.ts';

/**
 * `whole`: the app has all of it. `broken`: it broke off after it had begun. `left`: the app went first. `refused`: a region blames the request, or all are full.
 * `failed`: no region had an answer.
 */
export type Ending = 'whole' | 'broken' | 'left' | 'refused' | 'failed';

export interface TokenUsage {
  /** Undefined where no region has said. */
  readonly promptTokens: number | undefined;
  readonly completionTokens: number;
  /** Prompt tokens that the region had at hand from earlier requests; undefined where it hasn't said. */
  readonly cachedTokens: number | undefined;
  /** `region`: its own count, at the answer's end. `passed`: the tokens that passed until the answer broke or its app left (without token ids: the chunks). */
  readonly countedBy: 'region' | 'passed';
}

export interface Outcome {
  readonly ending: Ending;
  /** As sent; 499 where the app left before. */
  readonly status: number;
  /** Those that answered, in their order: more than one where the answer was gone on with elsewhere. */
  readonly regions: readonly string[];
  /** Of the experts that answered, as the first region told. */
  readonly digests: string | undefined;
  /** How often another region went on with it. */
  readonly resumes: number;
  /** How often another one was asked after a failure, */
  readonly retries: number;
  /** and beside one that took its time. */
  readonly hedges: number;
  /** From the forwarding's begin, in milliseconds, to the region's headers (streams), */
  readonly headersMs: number | undefined;
  /** to the first token (streams), */
  readonly firstTokenMs: number | undefined;
  /** and to the end. */
  readonly totalMs: number;
  /** As the app was told it. */
  readonly errorCode: string | undefined;
  /** Undefined where no token was made. */
  readonly usage: TokenUsage | undefined;
}

type Passed = Pick<TokenUsage, 'promptTokens' | 'completionTokens'>;

/** What is noted of an answer on its way. */
export class Tally {
  readonly #tell: (outcome: Outcome) => void;
  readonly #startedAt = Date.now();
  readonly #regions: string[] = [];
  #digests: string | undefined;
  #isTold = false;
  #underWay = 0;
  #hasFailed = false;
  #retries = 0;
  #hedges = 0;
  #headersMs: number | undefined;
  #firstTokenMs: number | undefined;
  #errorCode: string | undefined;
  #isRefused = false;
  #usage: TokenUsage | undefined;
  #status: number | undefined;
  #passed: () => Passed | undefined = () => undefined;

  constructor(tell: (outcome: Outcome) => void) {
    this.#tell = tell;
  }

  /** A region is asked. */
  asks(): void {
    if (this.#underWay > 0) this.#hedges++;
    else if (this.#hasFailed) this.#retries++;
    this.#hasFailed = false;
    this.#underWay++;
  }

  /** It has answered, failed, or isn't needed any more. */
  asked(result: 'answered' | 'failed' | 'cancelled'): void {
    this.#underWay--;
    this.#hasFailed = result === 'failed';
  }

  /** @param passed what has passed so far, should the answer not come to its end. */
  counts(passed: () => Passed | undefined): void {
    this.#passed = passed;
  }

  /** The app's response begins, with this status. */
  responds(status: number): void {
    this.#status ??= status;
  }

  /** A region's stream begins, or goes on. */
  streams({ region, headersAt, begunAt, headers }: StreamedAnswer): void {
    this.#regions.push(region);
    this.#digests ??= headers['x-signpost-digest'];
    this.#headersMs ??= headersAt - this.#startedAt;
    this.#firstTokenMs ??= begunAt - this.#startedAt;
  }

  /** An error event passes. */
  errs({ code, type }: ErrorBody['error']): void {
    this.#errorCode ??= code;
    this.#isRefused = type !== 'server_error';
  }

  /** A region's count passes. */
  used(usage: TokenUsage): void {
    this.#usage = usage;
  }

  /** A whole answer, of a status that says how it is meant. */
  answers({ region, status, headers, usage, errorCode }: WholeAnswer): void {
    this.#regions.push(region);
    this.#digests ??= headers['x-signpost-digest'];
    this.#usage = usage;
    this.#errorCode ??= errorCode;
    this.#end(status < 400 ? 'whole' : status < 500 ? 'refused' : 'failed', status);
  }

  /** A stream has come to its clean end. */
  ends(): void {
    this.#end(this.#errorCode === undefined ? 'whole' : this.#isRefused ? 'refused' : 'broken', 200);
  }

  /** Nothing more will come. @param status where none was sent */
  breaks(code: string, status: number): void {
    this.#errorCode ??= code;
    this.#end(this.#regions.length === 0 ? 'failed' : 'broken', status);
  }

  leaves(): void {
    this.#end('left', 499);
  }

  /** The first end counts: an app that has its answer may go. */
  #end(ending: Ending, status: number): void {
    if (this.#isTold) return;
    this.#isTold = true;
    const passed = this.#passed();
    this.#tell({
      ending,
      status: this.#status ?? status,
      regions: this.#regions,
      digests: this.#digests,
      resumes: Math.max(0, this.#regions.length - 1),
      retries: this.#retries,
      hedges: this.#hedges,
      headersMs: this.#headersMs,
      firstTokenMs: this.#firstTokenMs,
      totalMs: Date.now() - this.#startedAt,
      errorCode: this.#errorCode,
      usage: this.#usage ?? (passed && { ...passed, cachedTokens: undefined, countedBy: 'passed' }),
    });
  }
}
