/**
 * Asks again and again, as long as somebody may be looking.
 */
import { useEffect, useRef, useState } from 'preact/hooks';
import { type Client, isAbort } from '../api/client.ts';
import { asRefusal, type Refusal } from '../api/refusal.ts';

export interface Polled<T> {
  /** The latest that came, even where asking again failed. */
  readonly value: T | undefined;
  /** Why the latest try failed. */
  readonly problem: Refusal | undefined;
  /** Asks now. */
  readonly refresh: () => void;
}

interface PollOptions {
  readonly everyMs: number;
  /** Whether there is somebody to ask for. */
  readonly isOn: boolean;
}

/** @param ask a function of the module, or one that is kept: a new one starts anew */
export function usePoll<T>(
  client: Client,
  ask: (client: Client, signal: AbortSignal) => Promise<T>,
  { everyMs, isOn }: PollOptions,
): Polled<T> {
  const [value, setValue] = useState<T>();
  const [problem, setProblem] = useState<Refusal>();
  const refresh = useRef<() => void>(() => undefined);

  useEffect(() => {
    if (!isOn) return;
    setProblem(undefined);
    const stopped = new AbortController();
    let timer: ReturnType<typeof setTimeout> | undefined;
    let isAsking = false;
    const tell = async () => {
      clearTimeout(timer);
      if (isAsking || document.hidden) return;
      isAsking = true;
      try {
        setValue(await ask(client, stopped.signal));
        setProblem(undefined);
      } catch (error) {
        if (isAbort(error)) return;
        const refusal = asRefusal(error);
        setProblem(refusal);
        // The same key is no better the next time.
        if (refusal.status === 401) return;
      } finally {
        isAsking = false;
      }
      if (!stopped.signal.aborted) timer = setTimeout(tell, everyMs);
    };
    refresh.current = tell;
    // Nobody looks at a hidden page; once it is looked at it is to be of now.
    document.addEventListener('visibilitychange', tell);
    void tell();
    return () => {
      stopped.abort();
      clearTimeout(timer);
      document.removeEventListener('visibilitychange', tell);
    };
  }, [client, ask, everyMs, isOn]);

  return { value, problem, refresh: () => refresh.current() };
}
