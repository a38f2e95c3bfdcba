/**
 * The classifier's life in an isolate: cold → starting → ready, or failed and tried again later.
 *
 * No request waits for a start, and none fails by one: until a model is there, rules that need no label decide. A newer model takes the place of the one at work once it
 * is up; one that is no good doesn't. Knows nothing of ONNX or of where models come from (see `runtime.ts`, `source.ts`).
 */

/** A started model. */
interface RouterModel {
  /** Class labels, in the order of the probabilities. */
  readonly labels: readonly string[];
  /** Below this highest probability it doesn't commit itself to a label. */
  readonly threshold: number;
  /** Probabilities by label. */
  classify(text: string): Promise<Readonly<Record<string, number>>>;
}

export interface LoadedModel {
  readonly model: RouterModel;
  /** Where it came from, and why not from elsewhere: for people. */
  readonly origin: string;
  /** As `newest` names it. */
  readonly version: string;
  /** Lets go of what it holds. */
  release(): Promise<void>;
}

type State =
  | { readonly status: 'cold' }
  | { readonly status: 'starting'; readonly since: number; readonly attempt: number }
  | { readonly status: 'ready'; readonly loaded: LoadedModel; readonly startMs: number; readonly problem?: string }
  | { readonly status: 'failed'; readonly problem: string; readonly attempt: number; readonly retryAt: number };

interface Verdict {
  readonly label: string;
  /** The label's probability. */
  readonly confidence: number;
  readonly probabilities: Readonly<Record<string, number>>;
  readonly threshold: number;
  /** Time it took. Deployed Workers' clocks stand still between I/O, so there it reads 0. */
  readonly ms: number;
}

/** What is known about a prompt, as `x-signpost-classifier` says it. */
export type Classification =
  | { readonly state: 'ready' | 'abstained'; readonly verdict: Verdict }
  /** `skipped`: there is no text to look at. */
  | { readonly state: 'cold' | 'failed' | 'skipped' };

export interface ClassifierOptions {
  /** The version that there is now. */
  readonly newest: () => Promise<string>;
  /** That one, or none. @throws when it is no good */
  readonly load: (version: string) => Promise<LoadedModel>;
  /** The one that is always there: stands in at the start, and says why. */
  readonly bundled: (why: string) => Promise<LoadedModel>;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
  readonly log: (event: string, fields: Record<string, unknown>) => void;
}

/** A start that takes longer is taken for lost: its request may have been cancelled half way. */
const START_TIMEOUT_MS = 30_000;
const FIRST_RETRY_MS = 1_000;
const LAST_RETRY_MS = 5 * 60_000;
/** How often it is asked whether there is a newer model, */
const CHECK_EVERY_MS = 30_000;
/** how long one that was no good isn't tried again: it may be, or the store was, */
const REFUSED_FOR_MS = 5 * 60_000;
/** and when a renewal that hasn't ended is taken for lost. */
const RENEWAL_TIMEOUT_MS = 5 * 60_000;

export class Classifier {
  readonly #options: ClassifierOptions;
  #state: State = { status: 'cold' };
  #checkedAt = Number.NEGATIVE_INFINITY;
  #refused: { readonly version: string; readonly until: number } | undefined;
  /** The one under way. */
  #renewal: { readonly since: number } | undefined;

  constructor(options: ClassifierOptions) {
    this.#options = options;
  }

  /** For `/health` and explanations. */
  get status(): { readonly status: State['status']; readonly detail?: string } {
    const state = this.#state;
    switch (state.status) {
      case 'cold':
      case 'starting':
        return { status: state.status };
      case 'ready':
        return {
          status: 'ready',
          detail: [
            state.loaded.origin,
            `started in ${state.startMs} ms`,
            ...(state.problem ? [state.problem] : []),
          ].join('; '),
        };
      case 'failed':
        return { status: 'failed', detail: state.problem };
      default:
        return state satisfies never;
    }
  }

  /** For `waitUntil`: what `start` does, undefined where that is nothing. */
  due(): Promise<void> | undefined {
    const isSettled = this.#state.status === 'ready' && this.#options.now() - this.#checkedAt < CHECK_EVERY_MS;
    return isSettled ? undefined : this.start();
  }

  /**
   * Sees to it that the newest model is at work: starts one unless it is started, being started, or failed too recently, and looks for a newer one now and then. Never
   * rejects; run it after the answer is under way (`waitUntil`), because starting keeps the isolate busy for some hundred milliseconds.
   */
  async start(): Promise<void> {
    const { now, log } = this.#options;
    const startedAt = now();
    if (this.#state.status === 'ready') return this.#renew(this.#state.loaded, startedAt);
    if (!this.#mayStart(startedAt)) return;
    const attempt = 'attempt' in this.#state ? this.#state.attempt + 1 : 1;
    const starting: State = { status: 'starting', since: startedAt, attempt };
    this.#state = starting;
    try {
      // The answer on whose heels this runs goes out first.
      await new Promise((resolve) => setTimeout(resolve, 0));
      const loaded = await this.#first();
      // Taken for lost meanwhile, and begun again.
      if (this.#state !== starting) return await this.#letGo(loaded);
      this.#state = { status: 'ready', loaded, startMs: now() - startedAt };
      this.#checkedAt = now();
      log('classifier_ready', { origin: loaded.origin, ms: now() - startedAt });
    } catch (error) {
      if (this.#state === starting) this.#fail(error, attempt);
    }
  }

  async classify(text: string): Promise<Classification> {
    const state = this.#state;
    if (state.status === 'failed') return { state: 'failed' };
    if (state.status !== 'ready') return { state: 'cold' };
    if (text === '') return { state: 'skipped' };
    const { loaded } = state;
    const { model } = loaded;
    const startedAt = this.#options.now();
    try {
      const probabilities = await model.classify(text);
      const [label, confidence] = likeliest(probabilities);
      const ms = this.#options.now() - startedAt;
      const { threshold } = model;
      return {
        state: confidence < threshold ? 'abstained' : 'ready',
        verdict: { label, confidence, probabilities, threshold, ms },
      };
    } catch (error) {
      const { status } = this.#state;
      // Let go of meanwhile, for a newer one to take its place.
      if (status === 'ready' && !this.#isAtWork(loaded)) return this.classify(text);
      if (status === 'ready') {
        this.#fail(error, 1);
        await this.#letGo(loaded);
      }
      return { state: 'failed' };
    }
  }

  /** The newest; where it is no good, the bundled one, and why. */
  async #first(): Promise<LoadedModel> {
    const { now, newest, bundled } = this.#options;
    let version: string | undefined;
    try {
      version = await newest();
      const loaded = await this.#load(version);
      this.#refused = undefined;
      return loaded;
    } catch (error) {
      this.#refused = version === undefined ? undefined : { version, until: now() + REFUSED_FOR_MS };
      return this.#warmedUp(await bundled(messageOf(error)));
    }
  }

  /** Puts a newer model in the place of the one at work; that one goes on until then, and where the newer one is no good. */
  async #renew(loaded: LoadedModel, startedAt: number): Promise<void> {
    const { now, newest, log } = this.#options;
    if (startedAt - this.#checkedAt < CHECK_EVERY_MS) return;
    if (this.#renewal !== undefined && startedAt - this.#renewal.since < RENEWAL_TIMEOUT_MS) return;
    const renewal = { since: startedAt };
    this.#renewal = renewal;
    this.#checkedAt = startedAt;
    let version: string | undefined;
    try {
      version = await newest();
      if (version === loaded.version) return this.#settle(loaded, undefined);
      if (version === this.#refused?.version && startedAt < this.#refused.until) return;
      const newer = await this.#load(version);
      if (this.#renewal !== renewal || !this.#isAtWork(loaded)) return await this.#letGo(newer);
      this.#state = { status: 'ready', loaded: newer, startMs: now() - startedAt };
      this.#refused = undefined;
      log('classifier_renewed', { origin: newer.origin, ms: now() - startedAt });
      await this.#letGo(loaded);
    } catch (error) {
      const problem = messageOf(error);
      if (version !== undefined) this.#refused = { version, until: now() + REFUSED_FOR_MS };
      this.#settle(loaded, `a newer one is not used: ${problem}`);
      log('classifier_not_renewed', { problem });
    } finally {
      if (this.#renewal === renewal) this.#renewal = undefined;
    }
  }

  async #load(version: string): Promise<LoadedModel> {
    return this.#warmedUp(await this.#options.load(version));
  }

  /** The first run compiles: better here than in front of a request. */
  async #warmedUp(loaded: LoadedModel): Promise<LoadedModel> {
    try {
      await loaded.model.classify('warm up');
      return loaded;
    } catch (error) {
      await this.#letGo(loaded);
      throw error;
    }
  }

  async #letGo(loaded: LoadedModel): Promise<void> {
    try {
      await loaded.release();
    } catch (error) {
      // Its memory is lost, and nothing else.
      this.#options.log('classifier_not_released', { origin: loaded.origin, problem: messageOf(error) });
    }
  }

  #isAtWork(loaded: LoadedModel): boolean {
    return this.#state.status === 'ready' && this.#state.loaded === loaded;
  }

  #settle(loaded: LoadedModel, problem: string | undefined): void {
    const state = this.#state;
    if (state.status !== 'ready' || state.loaded !== loaded) return;
    const { startMs } = state;
    this.#state = { status: 'ready', loaded, startMs, ...(problem === undefined ? {} : { problem }) };
  }

  #mayStart(now: number): boolean {
    const state = this.#state;
    switch (state.status) {
      case 'cold':
        return true;
      case 'starting':
        return now - state.since > START_TIMEOUT_MS;
      case 'ready':
        return false;
      case 'failed':
        return now >= state.retryAt;
      default:
        return state satisfies never;
    }
  }

  #fail(error: unknown, attempt: number): void {
    const problem = messageOf(error);
    const backoffMs = Math.min(LAST_RETRY_MS, FIRST_RETRY_MS * 2 ** (attempt - 1)) * (0.5 + Math.random());
    this.#state = { status: 'failed', problem, attempt, retryAt: this.#options.now() + backoffMs };
    this.#options.log('classifier_failed', { problem, attempt, retryInMs: Math.round(backoffMs) });
  }
}

function likeliest(probabilities: Readonly<Record<string, number>>): [label: string, probability: number] {
  let label = '';
  let most = Number.NEGATIVE_INFINITY;
  for (const one in probabilities) {
    const probability = probabilities[one] ?? 0;
    if (probability > most) {
      label = one;
      most = probability;
    }
  }
  return [label, most];
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
