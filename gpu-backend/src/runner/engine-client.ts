/**
 * The engine as the HTTP thread sees it: requests as streams of events. The engine runs in a thread of its own, so HTTP never waits for a step.
 */
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { ApiError } from '@signpost/contracts';
import type {
  EngineFacts,
  EngineOptions,
  EngineStats,
  FromWorker,
  GenerationEvent,
  GenerationRequest,
  ToWorker,
} from './protocol.ts';

type Listener = (event: GenerationEvent) => void;

export class EngineClient {
  readonly facts: EngineFacts;
  readonly #worker: Worker;
  readonly #listeners = new Map<number, Listener>();
  readonly #calls = new Map<number, (stats: EngineStats) => void>();
  #lastId = 0;
  /** Why the engine is gone. */
  #death: Error | undefined;
  #isClosing = false;

  private constructor(worker: Worker, facts: EngineFacts) {
    this.#worker = worker;
    this.facts = facts;
    worker.on('message', (message: FromWorker) => this.#receive(message));
    worker.on('error', (error) => this.#die(error));
    worker.on('exit', (code) => this.#die(new Error(`the engine thread ended with code ${code}`)));
  }

  /** Starts the thread and waits until the base is resident. @throws what the thread failed with. */
  static async start(options: EngineOptions): Promise<EngineClient> {
    const worker = new Worker(new URL('./worker-entry.mjs', import.meta.url), { workerData: options });
    const exited = new AbortController();
    const onExit = (code: number) =>
      exited.abort(new Error(`the engine thread ended with code ${code} while it started`));
    worker.once('exit', onExit);
    // Rejects with the thread's own error where it throws.
    const [message] = (await once(worker, 'message', { signal: exited.signal })) as [FromWorker];
    worker.off('exit', onExit);
    if (message.kind !== 'ready') throw new Error(`the engine thread began with "${message.kind}"`);
    return new EngineClient(worker, message.facts);
  }

  get isAlive(): boolean {
    return this.#death === undefined;
  }

  /** Requests that have not ended. */
  get inFlight(): number {
    return this.#listeners.size;
  }

  /**
   * Runs a request. The events end with `finished`; a failure is thrown as ApiError. Leaving the loop early, or the signal, aborts the request.
   */
  async *generate(
    request: Omit<GenerationRequest, 'id'>,
    signal: AbortSignal,
  ): AsyncGenerator<Exclude<GenerationEvent, { kind: 'failed' }>> {
    if (this.#death !== undefined) throw engineGone(this.#death);
    signal.throwIfAborted();
    const id = ++this.#lastId;
    const queue: GenerationEvent[] = [];
    let wake: (() => void) | undefined;
    this.#listeners.set(id, (event) => {
      queue.push(event);
      wake?.();
    });
    const onAbort = () => wake?.();
    signal.addEventListener('abort', onAbort);
    this.#send({ kind: 'submit', request: { ...request, id } });
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
          const { type, code, message, status, param } = event.error;
          throw new ApiError(type, code, message, param === null ? { status } : { status, param });
        }
        yield event;
        if (event.kind === 'finished') return;
      }
    } finally {
      signal.removeEventListener('abort', onAbort);
      this.#listeners.delete(id);
      // Without effect where the request has ended.
      if (this.isAlive) this.#send({ kind: 'abort', id });
    }
  }

  stats(): Promise<EngineStats> {
    if (this.#death !== undefined) return Promise.reject(engineGone(this.#death));
    const call = ++this.#lastId;
    return new Promise((resolve) => {
      this.#calls.set(call, resolve);
      this.#send({ kind: 'stats', call });
    });
  }

  async close(): Promise<void> {
    this.#isClosing = true;
    await this.#worker.terminate();
  }

  #send(message: ToWorker): void {
    this.#worker.postMessage(message);
  }

  #receive(message: FromWorker): void {
    switch (message.kind) {
      case 'events':
        for (const { id, event } of message.events) this.#listeners.get(id)?.(event);
        return;
      case 'stats':
        this.#calls.get(message.call)?.(message.stats);
        this.#calls.delete(message.call);
        return;
      case 'ready':
        return;
      default:
        message satisfies never;
    }
  }

  #die(error: Error): void {
    this.#death ??= error;
    if (!this.#isClosing) process.emitWarning(`the engine thread is gone: ${error.message}`);
    const { type, code, message, status, param } = engineGone(this.#death);
    for (const listener of this.#listeners.values())
      listener({ kind: 'failed', error: { type, code, message, status, param } });
  }
}

function engineGone(cause: Error): ApiError {
  return new ApiError(
    'server_error',
    'engine_gone',
    'the engine of this region has stopped; another region may answer',
    { status: 503, cause },
  );
}
