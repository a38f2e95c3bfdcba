/**
 * The engine as the HTTP thread sees it: requests as streams of events. The engine runs in a thread of its own, so HTTP never waits for a step.
 *
 * A thread that dies takes no request with it silently: whatever waits for it fails, and nothing new is taken.
 */
import { once } from 'node:events';
import type { Worker } from 'node:worker_threads';
import type { Digest, ExpertVersion } from '@signpost/contracts';
import type { Usage } from '../experts/demand.ts';
import type { Tier } from '../experts/paging.ts';
import type { Standing } from '../experts/prefetch.ts';
import { startThread } from '../threads.ts';
import { Admission, type AdmissionLimits } from './admission.ts';
import { engineGone, revive } from './errors.ts';
import { PrefillRate } from './prefill-rate.ts';
import type {
  EngineCall,
  EngineCalls,
  EngineFacts,
  EngineOptions,
  FromWorker,
  GenerationEvent,
  GenerationRequest,
  RegionStats,
  StepStats,
  ToWorker,
} from './protocol.ts';
import { type EngineObserver, type RequestSummary, RequestWatch } from './request-watch.ts';

export interface EngineClientOptions extends AdmissionLimits {
  /** The base's, computed by the caller; by the engine's thread if left out. */
  readonly baseDigest?: Promise<Digest>;
  /** What a request may take at most; as long as it likes if left out. */
  readonly timeoutMs?: number;
  readonly observer?: EngineObserver;
  /** Told now and then how much of the base is in. */
  readonly onLoading?: (bytes: number, totalBytes: number) => void;
  /** Told now and then how many of the device's kernels are compiled. */
  readonly onCompiling?: (compiled: number, total: number) => void;
  /** Told what went wrong without harm to a request. */
  readonly onProblem?: (problem: string) => void;
  /** Told when an expert has come to a slot or into memory, gone, or is on its way into a slot. */
  readonly onResidency?: () => void;
  /** Told once when the thread ends without having been asked to. */
  readonly onDeath: (error: Error) => void;
}

/** What the longest step may take when the thread is to end. */
const STEP_LIMIT_MS = 30_000;

type Listener = (event: GenerationEvent) => void;

interface Call {
  readonly resolve: (answer: EngineCalls[keyof EngineCalls]['answer']) => void;
  readonly reject: (error: Error) => void;
}

export class EngineClient {
  readonly facts: EngineFacts;
  readonly #worker: Worker;
  readonly #options: EngineClientOptions;
  readonly #admission: Admission;
  readonly #listeners = new Map<number, Listener>();
  readonly #calls = new Map<number, Call>();
  readonly #prefill = new PrefillRate();
  #lastId = 0;
  /** Why the engine is gone. */
  #death: Error | undefined;
  #isClosing = false;

  private constructor(worker: Worker, facts: EngineFacts, options: EngineClientOptions) {
    this.#worker = worker;
    this.facts = facts;
    this.#options = options;
    this.#admission = new Admission(options);
    worker.on('message', (message: FromWorker) => this.#receive(message));
    worker.on('error', (error) => this.#die(error));
    worker.on('exit', (code) => this.#die(new Error(`the engine thread ended with code ${code}`)));
  }

  /** Starts the thread and waits until the base is resident. @throws what the thread failed with. */
  static async start(engine: EngineOptions, options: EngineClientOptions): Promise<EngineClient> {
    const worker = startThread('engine', engine);
    const message = await new Promise<FromWorker>((resolve, reject) => {
      Promise.resolve(options.baseDigest).then(
        (digest) => worker.postMessage({ kind: 'base', digest } satisfies ToWorker),
        (error: unknown) => {
          void worker.terminate();
          reject(error);
        },
      );
      worker.on('message', function onMessage(first: FromWorker) {
        if (first.kind === 'loading') return options.onLoading?.(first.bytes, first.totalBytes);
        if (first.kind === 'compiling') return options.onCompiling?.(first.compiled, first.total);
        worker.off('message', onMessage);
        resolve(first);
      });
      worker.once('error', reject);
      worker.once('exit', (code) => reject(new Error(`the engine thread ended with code ${code} while it started`)));
    });
    if (message.kind !== 'ready') throw new Error(`the engine thread began with "${message.kind}"`);
    return new EngineClient(worker, message.facts, options);
  }

  /** Prompt tokens that wait for their first step. */
  get queuedTokens(): number {
    return this.#admission.queuedTokens;
  }

  /** Prompt tokens computed in a second of late; null before the first. */
  get prefillTokensPerSecond(): number | null {
    return this.#prefill.tokensPerSecond;
  }

  get isAlive(): boolean {
    return this.#death === undefined;
  }

  /**
   * Runs a request. The events end with `finished`. Leaving the loop early, or the signal, aborts the request.
   *
   * @param onEnd told once what became of it, if it was admitted.
   * @throws ApiError (429) at once when the region is full, (504) when its time is up, or what the request failed with; the `signal`'s reason when it aborts.
   */
  async *generate(
    request: Omit<GenerationRequest, 'id'>,
    signal: AbortSignal,
    onEnd?: (summary: RequestSummary) => void,
  ): AsyncGenerator<Exclude<GenerationEvent, { kind: 'failed' }>> {
    if (this.#death !== undefined) throw engineGone(this.#death);
    signal.throwIfAborted();
    // Counted where a request is taken, so that no burst slips through between the check and the count.
    const ticket = this.#admission.enter(request.prompt.length + request.generated.length);
    const id = ++this.#lastId;
    const { observer } = this.#options;
    const watch = new RequestWatch(request);
    const queue: GenerationEvent[] = [];
    let wake: (() => void) | undefined;
    this.#listeners.set(id, (event) => {
      if (event.kind === 'started') ticket.start();
      watch.see(event, observer);
      queue.push(event);
      wake?.();
    });
    const onAbort = () => wake?.();
    signal.addEventListener('abort', onAbort);
    const timeoutMs = shorter(request.timeoutMs, this.#options.timeoutMs);
    this.#send({ kind: 'submit', request: { ...request, id, timeoutMs } });
    try {
      for (;;) {
        signal.throwIfAborted();
        const event = queue.shift();
        if (event === undefined) {
          await new Promise<void>((resolve) => {
            wake = resolve;
          });
          continue;
        }
        if (event.kind === 'failed') {
          throw revive(event.error);
        }
        yield event;
        if (event.kind === 'finished') return;
      }
    } finally {
      signal.removeEventListener('abort', onAbort);
      this.#listeners.delete(id);
      ticket.leave();
      const summary = watch.end(signal.aborted ? 'abort' : 'stop');
      observer?.onRequestEnd(summary);
      onEnd?.(summary);
      // Without effect where the request has ended.
      if (this.isAlive) this.#send({ kind: 'abort', id });
    }
  }

  /** @throws ApiError (503) when the engine is gone. */
  stats(): Promise<RegionStats> {
    return this.#call('stats', undefined);
  }

  /** How these experts were used since the start. @throws ApiError (503) when the engine is gone. */
  usage(digests: readonly Digest[]): Promise<readonly (Usage | undefined)[]> {
    return this.#call('usage', digests);
  }

  /** Brings an expert into a slot; tells how long it took. @throws ApiError (503) when it can't be had in time, or the engine is gone. */
  load(version: ExpertVersion, timeoutMs: number): Promise<{ readonly ms: number }> {
    return this.#call('load', { version, timeoutMs });
  }

  /** Forgets an expert everywhere but in the store, and tells where it was. @throws ApiError (503) when the engine is gone. */
  evict(digest: Digest): Promise<readonly Tier[]> {
    return this.#call('evict', digest);
  }

  /** Says which experts to have at hand from now on. */
  keep(standing: Standing): void {
    if (this.isAlive) this.#send({ kind: 'keep', standing });
  }

  /** Says which experts may be asked for soon. */
  hint(versions: readonly ExpertVersion[]): void {
    if (this.isAlive) this.#send({ kind: 'hint', versions });
  }

  #call<Name extends keyof EngineCalls>(
    name: Name,
    ask: EngineCalls[Name]['ask'],
  ): Promise<EngineCalls[Name]['answer']> {
    if (this.#death !== undefined) return Promise.reject(engineGone(this.#death));
    const call = ++this.#lastId;
    return new Promise((resolve, reject) => {
      // Answers come by the number of their call, which is of this name.
      this.#calls.set(call, { resolve: (answer) => resolve(answer as EngineCalls[Name]['answer']), reject });
      this.#send({ kind: 'call', call, name, ask } as EngineCall);
    });
  }

  /** Ends the thread after the step it is in. What is still in flight fails. */
  async close(): Promise<void> {
    if (this.#death !== undefined) return;
    this.#isClosing = true;
    const exited = once(this.#worker, 'exit');
    this.#send({ kind: 'close' });
    // A thread that is stopped inside native code takes the process with it: only where it doesn't come to an end.
    const stuck = setTimeout(() => void this.#worker.terminate(), STEP_LIMIT_MS);
    await exited;
    clearTimeout(stuck);
  }

  #send(message: ToWorker): void {
    this.#worker.postMessage(message);
  }

  #receive(message: FromWorker): void {
    switch (message.kind) {
      case 'events':
        if (message.step !== undefined) this.#see(message.step);
        for (const { id, event } of message.events) this.#listeners.get(id)?.(event);
        return;
      case 'answer':
        this.#calls.get(message.call)?.resolve(message.answer);
        this.#calls.delete(message.call);
        return;
      case 'refusal':
        this.#calls.get(message.call)?.reject(revive(message.error));
        this.#calls.delete(message.call);
        return;
      case 'residency':
        this.#options.onResidency?.();
        return;
      case 'problem':
        this.#options.onProblem?.(message.problem);
        return;
      case 'loading':
      case 'compiling':
      case 'ready':
        return;
      default:
        message satisfies never;
    }
  }

  #see(step: StepStats): void {
    this.#options.observer?.onStep(step);
    this.#prefill.add(step);
  }

  #die(error: Error): void {
    // A thread that throws ends, too: one death, two events.
    if (this.#death !== undefined) return;
    this.#death = error;
    if (!this.#isClosing) this.#options.onDeath(error);
    const gone = engineGone(error);
    const { type, code, message, status, param } = gone;
    for (const listener of this.#listeners.values())
      listener({ kind: 'failed', error: { type, code, message, status, param, detail: error.stack ?? error.message } });
    for (const { reject } of this.#calls.values()) reject(gone);
    this.#calls.clear();
  }
}

function shorter(a: number | undefined, b: number | undefined): number | undefined {
  return a === undefined || b === undefined ? (a ?? b) : Math.min(a, b);
}
