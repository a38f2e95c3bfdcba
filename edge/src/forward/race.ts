/**
 * Asking regions in order until one answers: the next one when one fails, and beside one that takes longer than it usually does (hedging: Dean and Barroso, "The
 * tail at scale", CACM 56(2), 2013). What comes too late is cancelled.
 */
import { ApiError } from '@signpost/contracts';

export interface Contender<T> {
  readonly name: string;
  /** @param own aborted when its answer isn't needed any more. @throws what it failed with. */
  run(own: AbortController): Promise<T>;
  /** After so long without an answer the next one is asked, too; never where undefined. */
  readonly hedgeAfterMs: number | undefined;
}

/** At once: the one, and its hedge. */
const MAX_AT_ONCE = 2;
/** Before another region is asked after a failure: many requests fail together when one dies. */
const MAX_JITTER_MS = 50;

/** Several failures, told as one. */
export class AllFailed extends Error {
  readonly errors: readonly unknown[];

  constructor(failures: readonly { readonly name: string; readonly error: unknown }[]) {
    super(failures.map(({ name, error }) => `${name}: ${error instanceof Error ? error.message : error}`).join('; '));
    this.errors = failures.map(({ error }) => error);
  }
}

/**
 * The first answer. Those not needed any more are aborted.
 *
 * @throws AllFailed when nobody answered; the `signal`'s reason when it aborts.
 */
export function race<T>(contenders: readonly Contender<T>[], signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const failures: { name: string; error: unknown }[] = [];
    const running = new Map<Contender<T>, AbortController>();
    const timers = new Set<ReturnType<typeof setTimeout>>();
    let next = 0;
    let isOver = false;

    const end = (settle: () => void, reason: unknown) => {
      if (isOver) return;
      isOver = true;
      signal.removeEventListener('abort', onAbort);
      for (const timer of timers) clearTimeout(timer);
      for (const controller of running.values()) controller.abort(reason);
      settle();
    };
    const onAbort = () => end(() => reject(signal.reason), signal.reason);
    const later = (ms: number, action: () => void) => {
      const timer = setTimeout(() => {
        timers.delete(timer);
        action();
      }, ms);
      timers.add(timer);
    };

    const start = () => {
      const contender = contenders[next];
      if (isOver || contender === undefined || running.size >= MAX_AT_ONCE) return;
      next++;
      const controller = new AbortController();
      running.set(contender, controller);
      if (contender.hedgeAfterMs !== undefined) later(contender.hedgeAfterMs, start);
      contender.run(controller).then(
        (answer) => {
          running.delete(contender);
          end(() => resolve(answer), running.size === 0 ? undefined : new Superseded());
        },
        (error: unknown) => {
          running.delete(contender);
          failures.push({ name: contender.name, error });
          if (next < contenders.length) later(Math.random() * MAX_JITTER_MS, start);
          else if (running.size === 0) end(() => reject(new AllFailed(failures)), undefined);
        },
      );
    };

    if (signal.aborted) return reject(signal.reason);
    signal.addEventListener('abort', onAbort, { once: true });
    if (contenders.length === 0) end(() => reject(new AllFailed([])), undefined);
    else start();
  });
}

/** Why a request was cancelled that nothing was wrong with. */
export class Superseded extends Error {
  override readonly name = 'Superseded';

  constructor() {
    super('another region was quicker');
  }
}

/** @param error of `race`. */
export function noRegionAnswered(error: AllFailed): ApiError {
  return new ApiError('server_error', 'no_region_answered', `no region answered (${error.message})`, {
    status: 503,
    cause: error,
  });
}
