/**
 * A function's life: the region is started once, then one invocation after the other is answered by it.
 *
 * AWS freezes the process as soon as it asks for the next invocation, for minutes or hours, and may never thaw it. So nothing here goes by the clock between two
 * invocations, and what should not be cut in two is brought to its end before the next one is asked for.
 */
import { ApiError } from '@signpost/contracts';
import type { Logger } from 'pino';
import type { Backend } from '../backend.ts';
import { settledWithin } from '../settled-within.ts';
import { preludeOf, requestOf } from './http-event.ts';
import type { Answering, Invocation, RuntimeApi } from './runtime-api.ts';

export interface LambdaOptions {
  readonly api: RuntimeApi;
  /** Starts the region. */
  readonly open: () => Promise<Backend>;
  /** How long AWS lets a start take: after that it goes on beside the first invocation. Undefined: as long as it takes. */
  readonly startLimitMs: number | undefined;
  /** Invocations at a time. */
  readonly concurrency: number;
  readonly log: Logger;
}

/** Before the function's time is up, to say so: AWS ends it without a word. */
const FAREWELL_MS = 1_000;

/** @throws Error when the region can't be started, or can't go on: a new process is needed. */
export async function runLambda(options: LambdaOptions): Promise<never> {
  const { api, open, startLimitMs, concurrency, log } = options;
  const began = performance.now();
  let backend: Backend | undefined;
  const starting = open().then((opened) => {
    const startMs = Math.round(performance.now() - began);
    log.info({ base: opened.facts.base, weightBytes: opened.facts.weightBytes, startMs }, 'ready');
    backend = opened;
    return opened;
  });
  // Whoever waits for it is told.
  starting.catch(() => undefined);
  try {
    if (startLimitMs === undefined) await starting;
    else await settledWithin(starting, startLimitMs);
  } catch (error) {
    await api.failStart(error);
    throw error;
  }
  async function serve(): Promise<never> {
    for (;;) {
      const invocation = await api.next();
      backend?.look();
      await answerInvocation(api.answer(invocation), invocation, starting, log);
      // One that has failed meanwhile has told its invocation so.
      if (backend === undefined) await settledWithin(starting, 0);
      await backend?.rest();
      if (backend?.isAlive === false) throw new Error('the engine thread is gone');
    }
  }
  // The first that fails ends them all.
  return Promise.race(Array.from({ length: concurrency }, serve));
}

/** Answers one invocation, somehow. Never rejects. */
async function answerInvocation(
  answering: Answering,
  { requestId, deadlineMs, event }: Invocation,
  starting: Promise<Backend>,
  log: Logger,
): Promise<void> {
  const arrivedAt = Date.now();
  const time = new AbortController();
  const timer = setTimeout(() => time.abort(outOfTime()), deadlineMs - arrivedAt - FAREWELL_MS);
  const signal = AbortSignal.any([answering.gone, time.signal]);
  try {
    const { response, until } = await responseTo();
    await answering.write(preludeOf(response));
    await pipe(response, answering, until);
    await answering.end();
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    if (answering.gone.aborted) return log.info({ invocation: requestId, reason }, 'an answer is taken no more');
    log.warn({ invocation: requestId, reason }, 'an answer broke off');
    // Where that doesn't arrive either, the connection's end says it.
    await answering.fail(error).catch(() => undefined);
  } finally {
    clearTimeout(timer);
  }

  async function responseTo(): Promise<{ readonly response: Response; readonly until: AbortSignal }> {
    try {
      const request = requestOf(event, signal);
      const backend = await before(starting.catch(startFailed), signal);
      const response = await backend.fetch(request, arrivedAt);
      // What was to be answered whole is not.
      signal.throwIfAborted();
      return { response, until: signal };
    } catch (error) {
      answering.gone.throwIfAborted();
      const told = ApiError.from(error);
      const { status, code, cause } = told;
      log.warn({ invocation: requestId, status, code, err: cause }, 'an invocation is refused');
      return { response: told.toResponse(), until: answering.gone };
    }
  }
}

/** Writes a response's body as fast as it is taken. @throws the `signal`'s reason; whoever makes the body is told that nobody reads on. */
async function pipe({ body }: Response, answering: Answering, signal: AbortSignal): Promise<void> {
  if (body === null) return;
  const reader = body.getReader();
  const leave = () => void reader.cancel(signal.reason).catch(() => undefined);
  signal.addEventListener('abort', leave, { once: true });
  try {
    for (;;) {
      const { done, value } = await reader.read();
      // After it, what comes is about nobody's reading on.
      signal.throwIfAborted();
      if (done) return;
      await answering.write(value);
    }
  } finally {
    signal.removeEventListener('abort', leave);
    leave();
  }
}

/** @throws what `promise` rejects with, or the `signal`'s reason when it aborts first. */
async function before<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  signal.throwIfAborted();
  let leave = () => {};
  const aborted = new Promise<never>((_, reject) => {
    leave = () => reject(signal.reason);
    signal.addEventListener('abort', leave, { once: true });
  });
  try {
    return await Promise.race([promise, aborted]);
  } finally {
    signal.removeEventListener('abort', leave);
  }
}

function startFailed(cause: unknown): never {
  throw new ApiError('server_error', 'start_failed', 'this region could not be started; its log says why', {
    status: 503,
    cause,
  });
}

/** A failure of the region, not of the request: another one may go on. */
function outOfTime(): ApiError {
  return new ApiError('server_error', 'function_timeout', 'the time that AWS gives this function is up', {
    status: 503,
  });
}
