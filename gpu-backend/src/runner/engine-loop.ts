/**
 * The engine's loop: requests in, steps of the model, events out. Runs in the worker thread; knows no HTTP and no text.
 *
 * Between two steps the thread's messages are read, so an abort frees its blocks within one step.
 */
import { ApiError } from '@signpost/contracts';
import { Sampler, SamplingScratch, type StepBatch, scoreToken, type TokenScore } from '@signpost/engine';
import type { Lease, Residency } from '../experts/residency.ts';
import type { BlockManager } from '../schedule/block-manager.ts';
import type { Chunk, Scheduler } from '../schedule/scheduler.ts';
import { Sequence } from '../schedule/sequence.ts';
import { buildStepBatch } from '../schedule/step-batch.ts';
import type { EngineStats, GenerationEvent, GenerationRequest, SerialisedError } from './protocol.ts';

/** The part of a model that the loop needs. */
export interface StepModel {
  readonly config: { readonly vocabSize: number };
  /** Logits (n, vocab) of the batch's `logitRows`. */
  forward(batch: StepBatch): Promise<Float32Array>;
}

export interface EngineParts {
  readonly model: StepModel;
  readonly blocks: BlockManager;
  readonly scheduler: Scheduler;
  readonly residency: Residency;
  /** Takes the events of one step (or of one failure). */
  readonly emit: (events: { id: number; event: GenerationEvent }[]) => void;
}

/** A request from its submission to its last event. */
interface Job {
  readonly request: GenerationRequest;
  readonly abort: AbortController;
  readonly sampler: Sampler;
  /** Prompt tokens whose scores have been sent; after preemption they are computed once more. */
  scored: number;
  /** Once its experts are in. */
  admitted?: { readonly sequence: Sequence; readonly lease: Lease };
}

export class EngineLoop {
  readonly #parts: EngineParts;
  readonly #jobs = new Map<number, Job>();
  readonly #scratch: SamplingScratch;
  #isRunning = false;

  constructor(parts: EngineParts) {
    this.#parts = parts;
    this.#scratch = new SamplingScratch(parts.model.config.vocabSize);
  }

  stats(): EngineStats {
    const { blocks, scheduler, residency } = this.#parts;
    const { slots, slotsFree, resident, loading } = residency.state;
    return {
      running: scheduler.running,
      waiting: this.#jobs.size - scheduler.running,
      kvBlocks: blocks.blocks,
      kvBlocksFree: blocks.free,
      slots,
      slotsFree,
      resident,
      loading,
    };
  }

  /** Takes a request; everything else that happens to it is an event. */
  async submit(request: GenerationRequest): Promise<void> {
    const sampler = new Sampler(request.sampling, this.#scratch, request);
    const job: Job = { request, abort: new AbortController(), sampler, scored: 0 };
    this.#jobs.set(request.id, job);
    try {
      const lease = await this.#parts.residency.acquire(
        request.mixture.map(({ version }) => version),
        job.abort.signal,
      );
      if (job.abort.signal.aborted) return lease.release();
      const mixture = request.mixture.map(({ weight }, i) => ({ slot: lease.slots[i] ?? -1, weight }));
      job.admitted = { sequence: new Sequence({ ...request, mixture }), lease };
      this.#parts.scheduler.add(job.admitted.sequence);
      void this.#run();
    } catch (error) {
      if (!job.abort.signal.aborted) this.#fail(job, error);
    }
  }

  /** Ends a request without a further event. Unknown ids are ignored: its last event may be on its way. */
  abort(id: number): void {
    const job = this.#jobs.get(id);
    if (job === undefined) return;
    this.#forget(job);
    job.abort.abort(new Error('aborted'));
  }

  async #run(): Promise<void> {
    if (this.#isRunning) return;
    this.#isRunning = true;
    try {
      for (;;) {
        const chunks = this.#parts.scheduler.schedule();
        if (chunks.length === 0) return;
        await this.#step(chunks);
        await new Promise((resolve) => setImmediate(resolve));
      }
    } finally {
      this.#isRunning = false;
    }
  }

  async #step(chunks: readonly Chunk[]): Promise<void> {
    let logits: Float32Array;
    try {
      logits = await this.#parts.model.forward(buildStepBatch(chunks));
    } catch (error) {
      // A step that can't be computed must not be tried for ever: its sequences fail, the others go on.
      for (const { sequence } of chunks) this.#failById(sequence.id, error);
      return;
    }
    const { vocabSize } = this.#parts.model.config;
    const events: { id: number; event: GenerationEvent }[] = [];
    let row = 0;
    for (const chunk of chunks) {
      const rows = chunk.logits === 'none' ? 0 : chunk.logits === 'last' ? 1 : chunk.count;
      const own = logits.subarray(row * vocabSize, (row + rows) * vocabSize);
      row += rows;
      const job = this.#jobs.get(chunk.sequence.id);
      // Gone while the step ran.
      if (job === undefined) continue;
      for (const event of this.#advance(job, chunk, own)) events.push({ id: job.request.id, event });
    }
    if (events.length > 0) this.#parts.emit(events);
  }

  /** What a chunk's logits (rows, vocab) mean for its request. */
  *#advance(job: Job, chunk: Chunk, logits: Float32Array): Generator<GenerationEvent> {
    const { request } = job;
    const { sequence, start, count } = chunk;
    const { vocabSize } = this.#parts.model.config;
    const endsSequence = start + count === sequence.tokens.length;
    if (chunk.logits === 'all') {
      const scores = scorePrompt(job, start, count, logits, vocabSize);
      job.scored += scores.length;
      if (scores.length > 0) yield { kind: 'scored', scores };
    }
    if (!endsSequence || request.maxTokens === 0) {
      this.#parts.scheduler.advance(chunk, undefined);
      if (endsSequence) yield this.#finish(job, 'length');
      return;
    }
    const last = logits.subarray(logits.length - vocabSize);
    const token = job.sampler.next(last);
    this.#parts.scheduler.advance(chunk, token);
    if (request.stopIds.includes(token)) return yield this.#finish(job, 'stop');
    yield request.logprobs === undefined
      ? { kind: 'token', token }
      : { kind: 'token', token, score: scoreToken(last, token, request.logprobs) };
    if (sequence.generated >= request.maxTokens) yield this.#finish(job, 'length');
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

  /** Frees what a request holds: blocks, then experts. */
  #forget(job: Job): void {
    this.#jobs.delete(job.request.id);
    if (job.admitted === undefined) return;
    this.#parts.scheduler.remove(job.admitted.sequence);
    job.admitted.lease.release();
  }
}

/** Scores, not sent before, of the prompt tokens that the rows `start` … predict; the first token, which nothing predicts, has null. */
function scorePrompt(
  { request, scored }: Job,
  start: number,
  count: number,
  logits: Float32Array,
  vocabSize: number,
): (TokenScore | null)[] {
  const { prompt, logprobs = 0 } = request;
  const scores: (TokenScore | null)[] = scored === 0 ? [null] : [];
  for (let i = 0; i < count; i++) {
    const position = start + i + 1;
    const token = prompt[position];
    if (token === undefined || position < scored) continue;
    scores.push(scoreToken(logits.subarray(i * vocabSize, (i + 1) * vocabSize), token, logprobs));
  }
  return scores;
}

function serialise(error: unknown): SerialisedError {
  const { type, code, message, status, param, cause } = ApiError.from(error);
  const detail = cause instanceof Error ? (cause.stack ?? cause.message) : message;
  return { type, code, message, status, param, detail };
}
