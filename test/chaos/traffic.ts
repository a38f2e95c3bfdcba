/**
 * What apps do to a region, and a strict eye on what they get: an answer is right to the last bit of its tokens' probabilities, or it is none and says
 * why.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Answers } from './answers.ts';
import type { Region } from './region.ts';

export interface Question {
  readonly content: string;
  readonly maxTokens: number;
}

export interface Ask {
  readonly model: string;
  readonly question: Question;
  readonly stream: boolean;
  /** What the app allows for the answer. */
  readonly timeoutMs: number;
  /** When the app goes away; it stays if left out. */
  readonly leaveMs?: number;
}

export type Outcome =
  | { readonly kind: 'answered'; readonly digests: string; readonly text: string }
  | {
      readonly kind: 'refused';
      readonly code: string;
      readonly message: string;
      /** What had been streamed by then. */
      readonly begun?: { readonly digests: string; readonly text: string };
    }
  /** The connection ended. */
  | { readonly kind: 'broken'; readonly message: string }
  | { readonly kind: 'left' };

/** What a request may take beyond what its app allows, on a machine that has other work. */
const GRACE_MS = 4_000;
/** Ways to say no that are the store's fault, or the clock's. */
export const REFUSALS: readonly string[] = ['expert_unavailable', 'catalogue_unavailable', 'deadline_exceeded'];
/** Those of a region that comes or goes. */
const REFUSALS_IN_BETWEEN: readonly string[] = ['starting', 'draining', 'engine_gone'];

/** Sends one request and reads the answer to its end. @throws Error for an answer that is neither whole nor refused. */
export async function ask(url: string, { model, question, stream, timeoutMs, leaveMs }: Ask): Promise<Outcome> {
  const left = new AbortController();
  const leaving = leaveMs === undefined ? undefined : setTimeout(() => left.abort(), leaveMs);
  const tooLate = AbortSignal.timeout(timeoutMs + GRACE_MS);
  try {
    const response = await fetch(`${url}/v1/chat/completions`, {
      method: 'POST',
      headers: { 'x-signpost-timeout-ms': String(timeoutMs) },
      body: JSON.stringify({
        model,
        messages: [{ role: 'user', content: question.content }],
        max_tokens: question.maxTokens,
        temperature: 0,
        ignore_eos: true,
        logprobs: true,
        stream,
      }),
      signal: AbortSignal.any([left.signal, tooLate]),
    });
    const body = await response.text();
    if (response.status !== 200) return refusalOf(response.status, body);
    const digests = response.headers.get('x-signpost-digest') ?? '';
    return stream ? streamed(digests, body) : { kind: 'answered', digests, text: wholeOf(body) };
  } catch (error) {
    if (left.signal.aborted) return { kind: 'left' };
    if (tooLate.aborted) throw new Error(`neither answered nor refused ${GRACE_MS} ms after its ${timeoutMs} ms`);
    // What `fetch` throws; all else is not JSON, or not the JSON expected.
    if (error instanceof TypeError) return { kind: 'broken', message: `${error.message}: ${error.cause}` };
    throw error;
  } finally {
    clearTimeout(leaving);
  }
}

interface Body {
  readonly choices?: readonly {
    readonly logprobs?: { readonly content: readonly { readonly token: string; readonly logprob: number }[] } | null;
  }[];
  readonly error?: { readonly code: string; readonly message: string };
}

/** Tokens with their log-probabilities: two experts may say the same, but not as surely. */
function textOf(bodies: readonly Body[]): string {
  const tokens = bodies.flatMap(({ choices }) => choices?.[0]?.logprobs?.content ?? []);
  return tokens.map(({ token, logprob }) => `${JSON.stringify(token)} ${logprob}`).join(', ');
}

function wholeOf(body: string): string {
  const text = textOf([JSON.parse(body) as Body]);
  if (text === '') throw new Error(`status 200 without an answer: ${body}`);
  return text;
}

function refusalOf(status: number, body: string): Outcome {
  const { error } = JSON.parse(body) as Body;
  if (typeof error?.code !== 'string' || error.message === '') throw new Error(`status ${status} without why: ${body}`);
  return { kind: 'refused', ...error };
}

function streamed(digests: string, body: string): Outcome {
  const events = body.split('\n\n').flatMap((event) => (event.startsWith('data: ') ? [event.slice(6)] : []));
  const isDone = events.at(-1) === '[DONE]';
  const chunks = (isDone ? events.slice(0, -1) : events).map((event) => JSON.parse(event) as Body);
  const error = chunks.at(-1)?.error;
  if (isDone === (error !== undefined))
    throw new Error(`a stream that ends neither in [DONE] nor in an error: ${body}`);
  const text = textOf(chunks);
  return error === undefined
    ? { kind: 'answered', digests, text }
    : { kind: 'refused', ...error, begun: { digests, text } };
}

export interface TrafficOptions {
  readonly region: Region;
  readonly answers: Answers;
  /** Numbers in [0, 1): what is asked for, how, and when. */
  readonly random: () => number;
  /** What is asked for, most often first. */
  readonly models: readonly string[];
  readonly questions: readonly Question[];
  /** Digest of a version → the one it has taken the place of. */
  readonly replaced: ReadonlyMap<string, string>;
}

const APPS = 8;
const TIMEOUT_MS = 9_000;
/** Shorter than a stalled read's. */
const SHORT_TIMEOUT_MS = 2_500;
const LONGEST_PAUSE_MS = 60;

export class Traffic {
  readonly violations: string[] = [];
  /** By how requests ended: `answered`, `left`, `broken`, or the code of the refusal. */
  readonly counts = new Map<string, number>();
  readonly #options: TrafficOptions;
  /** By digest of an older version: when an answer of the newer one was here. */
  readonly #seenNewer = new Map<string, number>();
  #apps: Promise<unknown> | undefined;
  #isRunning = false;
  #mayRefuse = true;

  constructor(options: TrafficOptions) {
    this.#options = options;
  }

  start(): void {
    this.#isRunning = true;
    this.counts.clear();
    this.#apps = Promise.all(Array.from({ length: APPS }, () => this.#app()));
  }

  /** From now on until it stops, a request that isn't answered is a violation. */
  mustAnswer(): void {
    this.#mayRefuse = false;
  }

  async stop(): Promise<void> {
    this.#isRunning = false;
    await this.#apps;
    this.#mayRefuse = true;
  }

  count(kind: string): number {
    return this.counts.get(kind) ?? 0;
  }

  /** Whether an answer came of the version that replaced this one. */
  hasSeenNewer(digest: string): boolean {
    return this.#seenNewer.has(digest);
  }

  /** Asks, and holds what comes against what should. */
  async check(request: Ask): Promise<Outcome | undefined> {
    const { region } = this.#options;
    const { downs } = region;
    const [isUp, mayRefuse, began] = [region.isUp, this.#mayRefuse, performance.now()];
    const violated = (what: string) => {
      const { model, question, stream, timeoutMs } = request;
      const asked = `${model} "${question.content.slice(0, 20)}" ${stream ? 'streamed' : 'whole'} in ${timeoutMs} ms`;
      this.violations.push(`${asked}, after ${Math.round(performance.now() - began)} ms: ${what}`);
    };
    const outcome = await ask(region.url, request).catch((error: unknown) => {
      violated(String(error));
    });
    if (outcome === undefined) return undefined;
    // Whether it was there all the time.
    const wasUp = isUp && region.isUp && region.downs === downs;
    const name = outcome.kind === 'refused' ? outcome.code : outcome.kind;
    this.counts.set(name, this.count(name) + 1);
    switch (outcome.kind) {
      case 'answered': {
        const { digests, text } = outcome;
        const expected = this.#options.answers.of(request.model, digests, request.question);
        if (text !== expected) violated(`${digests} answered ${JSON.stringify(text)}, not ${JSON.stringify(expected)}`);
        this.#checkVersions(digests, began, violated);
        break;
      }
      case 'refused': {
        const { code, message, begun } = outcome;
        const whole = begun && this.#options.answers.of(request.model, begun.digests, request.question);
        if (begun !== undefined && whole?.startsWith(begun.text) !== true)
          violated(`${begun.digests} began with ${JSON.stringify(begun.text)}, not as ${JSON.stringify(whole)}`);
        if (!REFUSALS.includes(code) && (wasUp || !REFUSALS_IN_BETWEEN.includes(code)))
          violated(`refused with ${code}: ${message}`);
        if (wasUp && (!mayRefuse || request.model === 'base')) violated(`refused with ${code}: ${message}`);
        break;
      }
      case 'broken':
        if (wasUp) violated(`broken off: ${outcome.message}`);
        break;
      case 'left':
        break;
      default:
        outcome satisfies never;
    }
    return outcome;
  }

  /** A version that was replaced is not seen again by who has seen the newer one, unless it is asked for by its digest. */
  #checkVersions(digests: string, began: number, violated: (what: string) => void): void {
    for (const digest of digests.split('+')) {
      const older = this.#options.replaced.get(digest);
      if (older !== undefined && !this.#seenNewer.has(older)) this.#seenNewer.set(older, performance.now());
      const newerAt = this.#seenNewer.get(digest);
      if (newerAt !== undefined && newerAt < began) violated(`${digest} answered after the version that replaced it`);
    }
  }

  async #app(): Promise<void> {
    const { random, models, questions } = this.#options;
    while (this.#isRunning) {
      // Zipf's law, near enough: each is asked for as often as all behind it in a list twice as long.
      const model = models[Math.floor(models.length * random() ** 1.6)] ?? 'base';
      const question = questions[Math.floor(questions.length * random())] ?? { content: '', maxTokens: 0 };
      const stream = random() < 0.5;
      const leaves = random() < 0.1 ? { leaveMs: 600 * random() } : {};
      // The base needs no store: it may refuse nobody, and gets the time that its tokens take here.
      const isHasty = this.#mayRefuse && model !== 'base' && random() < 0.25;
      const timeoutMs = isHasty ? SHORT_TIMEOUT_MS : TIMEOUT_MS;
      await this.check({ model, question, stream, timeoutMs, ...leaves });
      await sleep(this.#options.region.isUp ? LONGEST_PAUSE_MS * random() : LONGEST_PAUSE_MS);
    }
  }
}
