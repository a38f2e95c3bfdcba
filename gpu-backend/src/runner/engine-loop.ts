/**
 * The engine's loop: requests in, steps of the model, events out. Runs in the worker thread; knows no HTTP and no text.
 *
 * Between two steps the thread's messages are read, so an abort frees its blocks within one step.
 */
import { setImmediate as turn } from 'node:timers/promises';
import { ApiError, type Digest } from '@signpost/contracts';
import {
  abortable,
  type ChosenToken,
  type Grammars,
  MOST_ALTERNATIVES,
  type Model,
  Sampler,
  SamplingScratch,
  type StepBatch,
  scoreToken,
  type TokenChoice,
} from '@signpost/engine';
import type { Lease, Residency } from '../experts/residency.ts';
import type { BlockManager } from '../schedule/block-manager.ts';
import type { Scheduler } from '../schedule/scheduler.ts';
import { Sequence } from '../schedule/sequence.ts';
import { logitCount, StepBatchBuilder } from '../schedule/step-batch.ts';
import type { Chunk } from '../schedule/step-budget.ts';
import { LONGEST_TIMER_MS } from '../settled-within.ts';
import { EarlyPrefill, type EarlyRows } from './early-prefill.ts';
import { serialise } from './errors.ts';
import type {
  EngineStats,
  ExpertLoad,
  GenerationEvent,
  GenerationRequest,
  RequestEvent,
  StepStats,
} from './protocol.ts';
import { scorePrompt } from './score-prompt.ts';

/** The part of a model that the loop needs. */
export interface StepModel {
  /** Columns of the logits of the next step: the vocabulary, and what the experts now loaded add to it. */
  readonly logitWidth: number;
  /** Logits (n, logitWidth) of the batch's `logitRows`, in the first values of `into`. All experts are whole. */
  forward(batch: StepBatch, into: Float32Array): Promise<Float32Array>;
  /**
   * The next `steps` tokens of the batch's `logitRows`, by row; more than one only of a batch of one row of each sequence. Undefined where the device
   * can't choose tokens.
   */
  readonly generate?: Model['generate'];
  /** The last one's logits of steps that follow each other, once their experts are whole; before that they go as far as they can. */
  forwardArriving(batches: readonly StepBatch[], signal: AbortSignal): Promise<Float32Array>;
}

export interface EngineParts {
  readonly model: StepModel;
  readonly blocks: BlockManager;
  readonly scheduler: Scheduler;
  readonly residency: Residency;
  readonly grammars: Pick<Grammars, 'constraint'>;
  /** Takes what happened in one step, or outside of any. */
  readonly emit: (events: readonly RequestEvent[], step?: StepStats) => void;
}

/** A request from its submission to its last event. */
interface Job {
  readonly request: GenerationRequest;
  readonly abort: AbortController;
  /** Once it is known that the answer can be held to its format. */
  sampler: Sampler | undefined;
  deadline: NodeJS.Timeout | undefined;
  /** Whether its first tokens have been computed, or are being. */
  hasStarted: boolean;
  /** Once its experts are in. */
  admitted?: { readonly sequence: Sequence; readonly lease: Lease };
}

/** What a step has made of a chunk: logits (rows, width) of those that were wanted, or its sequence's next tokens. */
type Outcome =
  | { readonly kind: 'logits'; readonly logits: Float32Array; readonly width: number }
  | { readonly kind: 'tokens'; readonly tokens: readonly ChosenToken[] };

export class EngineLoop {
  readonly #parts: EngineParts;
  readonly #jobs = new Map<number, Job>();
  readonly #scratch: SamplingScratch;
  readonly #batches = new StepBatchBuilder();
  readonly #early: EarlyPrefill;
  /** Grows to the most logits that a step has asked for. */
  #logits = new Float32Array(0);
  /** Rows of the step now run that it was not put together with. */
  #goneOn = 0;
  #isRunning = false;

  constructor(parts: EngineParts) {
    this.#parts = parts;
    this.#early = new EarlyPrefill(parts.model, parts.blocks, parts.scheduler.maxStepTokens);
    this.#scratch = new SamplingScratch(parts.model.logitWidth);
  }

  stats(): EngineStats {
    const { blocks, scheduler, residency } = this.#parts;
    return {
      running: scheduler.running,
      waiting: this.#waiting,
      experts: this.#expertLoads(),
      kvBlocks: blocks.blocks,
      kvBlocksFree: blocks.free,
      residency: residency.state,
      preemptionsTotal: scheduler.preemptions,
      prefixQueriesTotal: blocks.prefix.queries,
      prefixHitsTotal: blocks.prefix.hits,
    };
  }

  /** Takes a request; everything else that happens to it is an event. */
  async submit(request: GenerationRequest): Promise<void> {
    const job: Job = {
      request,
      abort: new AbortController(),
      sampler: undefined,
      deadline: undefined,
      hasStarted: false,
    };
    this.#jobs.set(request.id, job);
    if (request.timeoutMs !== undefined)
      job.deadline = setTimeout(() => this.#expire(job), Math.min(request.timeoutMs, LONGEST_TIMER_MS));
    try {
      job.sampler = this.#sampler(request);
      const lease = await this.#parts.residency.acquire(
        request.mixture.map(({ version }) => version),
        job.abort.signal,
      );
      const mixture = request.mixture.map(({ weight, version }, i) => ({
        slot: lease.slots[i] ?? -1,
        weight,
        digest: version.digest,
      }));
      const sequence = new Sequence({ ...request, mixture });
      let early: EarlyRows | undefined;
      try {
        if (!lease.isWhole && !(await isWholeSoon(lease))) {
          early = await this.#early.run(sequence, job.abort.signal);
          // Somebody may have waited for the blocks it held.
          if (early === undefined) void this.#run();
        }
        await abortable(lease.whole, job.abort.signal);
        // Gone since: the last event has been sent.
        job.abort.signal.throwIfAborted();
      } catch (error) {
        this.#parts.blocks.release(sequence);
        lease.release();
        throw error;
      }
      job.admitted = { sequence, lease };
      if (early === undefined) this.#parts.scheduler.add(sequence);
      else if (this.#parts.scheduler.adopt(sequence)) this.#begin(job, sequence, early);
      void this.#run();
    } catch (error) {
      if (!job.abort.signal.aborted) this.#fail(job, error);
    }
  }

  /** The first token of a sequence whose prompt was computed early. */
  #begin(job: Job, sequence: Sequence, { chunk, logits }: EarlyRows): void {
    if (chunk.logits === 'none') return;
    const events = this.#start(sequence);
    this.#scratch.fit(logits.length);
    for (const event of this.#advance(job, chunk, logits, logits.length)) events.push({ id: job.request.id, event });
    this.#parts.emit(events);
  }

  /** @throws Problem for a format that isn't supported, or that the answer so far doesn't follow. */
  #sampler(request: GenerationRequest): Sampler {
    const { grammar, stopIds } = request;
    const constraint = grammar && this.#parts.grammars.constraint(grammar, stopIds);
    return new Sampler(request.sampling, this.#scratch, { ...request, constraint });
  }

  /** Ends a request without a further event. Unknown ids are ignored: its last event may be on its way. */
  abort(id: number): void {
    const job = this.#jobs.get(id);
    if (job === undefined) return;
    this.#forget(job);
    job.abort.abort(new Error('aborted'));
  }

  /** In the scheduler, or for a slot. */
  get #waiting(): number {
    return this.#jobs.size - this.#parts.scheduler.running;
  }

  #expertLoads(): ExpertLoad[] {
    const loads = new Map<Digest, { running: number; waiting: number }>();
    for (const { request, admitted } of this.#jobs.values()) {
      const isRunning = admitted !== undefined && admitted.sequence.phase !== 'waiting';
      for (const { version } of request.mixture) {
        const load = loads.get(version.digest) ?? { running: 0, waiting: 0 };
        load[isRunning ? 'running' : 'waiting']++;
        loads.set(version.digest, load);
      }
    }
    return Array.from(loads, ([digest, load]) => ({ digest, ...load }));
  }

  async #run(): Promise<void> {
    if (this.#isRunning) return;
    this.#isRunning = true;
    try {
      for (;;) {
        const { preemptions } = this.#parts.scheduler;
        const { queries, hits } = this.#parts.blocks.prefix;
        const started = performance.now();
        const chunks = this.#parts.scheduler.schedule();
        if (this.#parts.scheduler.isShortOfBlocks) this.#early.yieldBlocks();
        if (chunks.length === 0) return;
        this.#goneOn = 0;
        const events = await this.#step(chunks);
        const { prefillTokens, decodeTokens, experts } = stepTokens(chunks);
        this.#parts.emit(events, {
          durationMs: performance.now() - started,
          prefillTokens,
          decodeTokens: decodeTokens + this.#goneOn,
          experts,
          running: this.#parts.scheduler.running,
          waiting: this.#waiting,
          kvBlocksFree: this.#parts.blocks.free,
          preemptions: this.#parts.scheduler.preemptions - preemptions,
          prefixQueries: this.#parts.blocks.prefix.queries - queries,
          prefixHits: this.#parts.blocks.prefix.hits - hits,
        });
        await new Promise((resolve) => setImmediate(resolve));
      }
    } finally {
      this.#isRunning = false;
    }
  }

  async #step(chunks: readonly Chunk[]): Promise<RequestEvent[]> {
    const started = chunks.flatMap(({ sequence }) => this.#start(sequence));
    if (started.length > 0) this.#parts.emit(started);
    const events: RequestEvent[] = [];
    let outcomes: readonly Outcome[];
    try {
      outcomes = await this.#compute(chunks);
    } catch (error) {
      // A step that can't be computed must not be tried for ever: its sequences fail, the others go on.
      this.#parts.scheduler.abandon(chunks);
      for (const { sequence } of chunks) this.#failById(sequence.id, error);
      return events;
    }
    for (const [index, chunk] of chunks.entries()) {
      const job = this.#jobs.get(chunk.sequence.id);
      const outcome = outcomes[index];
      // Gone while the step ran.
      if (job === undefined || outcome === undefined) continue;
      try {
        for (const event of this.#proceed(job, chunk, outcome)) events.push({ id: job.request.id, event });
      } catch (error) {
        // No token that its format allows: this request's trouble alone.
        this.#fail(job, error);
      }
    }
    return events;
  }

  /** Tokens where the device can choose all of them; else logits. */
  async #compute(chunks: readonly Chunk[]): Promise<readonly Outcome[]> {
    const { model, scheduler } = this.#parts;
    const { generate } = model;
    const choices = generate && this.#choices(chunks);
    if (generate !== undefined && choices !== undefined) {
      const steps = this.#waiting > 0 ? 1 : scheduler.reserve(chunks);
      const tokens = await generate(this.#batches.build(chunks, steps - 1), choices, steps);
      let row = 0;
      return chunks.map((chunk) => ({ kind: 'tokens', tokens: logitCount(chunk) === 0 ? [] : (tokens[row++] ?? []) }));
    }
    const width = model.logitWidth;
    const wanted = chunks.reduce((sum, chunk) => sum + logitCount(chunk), 0) * width;
    if (this.#logits.length < wanted) this.#logits = new Float32Array(wanted);
    this.#scratch.fit(width);
    const logits = await model.forward(this.#batches.build(chunks), this.#logits);
    let row = 0;
    return chunks.map((chunk) => {
      const first = row;
      row += logitCount(chunk);
      return { kind: 'logits', logits: logits.subarray(first * width, row * width), width };
    });
  }

  /** How the next token of each chunk that ends its sequence is chosen; undefined where the logits of any are needed here. */
  #choices(chunks: readonly Chunk[]): TokenChoice[] | undefined {
    const choices: TokenChoice[] = [];
    for (const { sequence, logits } of chunks) {
      if (logits === 'none') continue;
      const job = this.#jobs.get(sequence.id);
      const alternatives = job?.request.logprobs;
      if (logits === 'all' || sequence.generated >= sequence.maxTokens) return undefined;
      if (alternatives !== undefined && alternatives > MOST_ALTERNATIVES) return undefined;
      const choice = job?.sampler?.choice(alternatives);
      if (choice === undefined) return undefined;
      choices.push(choice);
    }
    return choices.length === 0 ? undefined : choices;
  }

  *#proceed(job: Job, chunk: Chunk, outcome: Outcome): Generator<GenerationEvent> {
    switch (outcome.kind) {
      case 'logits':
        return yield* this.#advance(job, chunk, outcome.logits, outcome.width);
      case 'tokens':
        for (const [index, chosen] of outcome.tokens.entries()) {
          // What was chosen after the answer's end is nobody's.
          if (!this.#jobs.has(job.request.id)) return;
          if (index > 0) this.#goOn(chunk.sequence);
          job.sampler?.accept(chosen.token);
          yield* this.#take(job, chunk.sequence, chosen);
        }
        return;
      default:
        outcome satisfies never;
    }
  }

  /** The event of a sequence's first step. */
  #start({ id, cachedTokens = 0 }: Sequence): RequestEvent[] {
    const job = this.#jobs.get(id);
    if (job === undefined || job.hasStarted) return [];
    job.hasStarted = true;
    return [{ id, event: { kind: 'started', cachedTokens } }];
  }

  /** The device has gone on by the answer's last token, too. */
  #goOn(sequence: Sequence): void {
    this.#parts.scheduler.goOn(sequence);
    this.#goneOn++;
  }

  /** What a chunk's logits (rows, width) mean for its request. */
  *#advance(job: Job, chunk: Chunk, logits: Float32Array, width: number): Generator<GenerationEvent> {
    const { request } = job;
    const { sequence, start, count } = chunk;
    const endsSequence = start + count === sequence.tokens.length;
    if (chunk.logits === 'all') {
      const scores = scorePrompt(request, chunk, logits, width);
      sequence.scored += scores.length;
      if (scores.length > 0) yield { kind: 'scored', scores };
    }
    if (!endsSequence) return;
    if (sequence.generated >= request.maxTokens) return yield this.#finish(job, 'length');
    const last = logits.subarray(logits.length - width);
    if (job.sampler === undefined) throw new Error('a sequence began without its sampler');
    const token = job.sampler.next(last);
    const { logprobs } = request;
    yield* this.#take(
      job,
      sequence,
      logprobs === undefined ? { token } : { token, score: scoreToken(last, token, logprobs) },
    );
  }

  /** An answer's next token. */
  *#take(job: Job, sequence: Sequence, chosen: ChosenToken): Generator<GenerationEvent> {
    const { stopIds, maxTokens } = job.request;
    sequence.tokens.push(chosen.token);
    if (stopIds.includes(chosen.token)) return yield this.#finish(job, 'stop');
    yield { kind: 'token', ...chosen };
    if (sequence.generated >= maxTokens) yield this.#finish(job, 'length');
  }

  #finish(job: Job, reason: 'stop' | 'length'): GenerationEvent {
    this.#forget(job);
    return { kind: 'finished', reason };
  }

  #failById(id: number, error: unknown): void {
    const job = this.#jobs.get(id);
    if (job !== undefined) this.#fail(job, error);
  }

  #fail(job: Job, error: unknown): void {
    this.#forget(job);
    this.#parts.emit([{ id: job.request.id, event: { kind: 'failed', error: serialise(error) } }]);
  }

  #expire(job: Job): void {
    this.#fail(job, deadlineExceeded(job));
    job.abort.abort(new Error('its deadline has passed'));
  }

  /** Frees what a request holds: blocks, then experts. */
  #forget(job: Job): void {
    this.#jobs.delete(job.request.id);
    clearTimeout(job.deadline);
    if (job.admitted === undefined) return;
    this.#parts.scheduler.remove(job.admitted.sequence);
    job.admitted.lease.release();
  }
}

/** Whether experts are in with the next turn, as those are that were in memory: steps with others are the faster way then. */
function isWholeSoon({ whole }: Lease): Promise<boolean> {
  const is = (answer: boolean) => () => answer;
  // Where it fails, that is told where it is waited for.
  return Promise.race([whole.then(is(true), is(true)), turn().then(is(false))]);
}

function stepTokens(chunks: readonly Chunk[]): Pick<StepStats, 'prefillTokens' | 'decodeTokens' | 'experts'> {
  const experts = new Set<number>();
  const tokens = { prefill: 0, decode: 0 };
  for (const { kind, count, sequence } of chunks) {
    tokens[kind] += count;
    for (const slot of sequence.experts) experts.add(slot);
  }
  return { prefillTokens: tokens.prefill, decodeTokens: tokens.decode, experts: experts.size };
}

function deadlineExceeded({ request, admitted, hasStarted }: Job): ApiError {
  const state =
    admitted === undefined
      ? 'while it waited for a slot for its experts'
      : hasStarted
        ? `with ${admitted.sequence.generated} of at most ${request.maxTokens} tokens answered`
        : 'while it waited for its turn';
  return new ApiError(
    'server_error',
    'deadline_exceeded',
    `the request's ${request.timeoutMs} ms passed ${state}; ask for less, allow more time, or try another region`,
    { status: 504 },
  );
}
