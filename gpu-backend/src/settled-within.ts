/** What a timer of Node's can count; a longer one would go off at once. */
export const LONGEST_TIMER_MS = 2 ** 31 - 1;

/** Waits until `promise` settles, at most `limitMs` (not at all where that is below 0). @returns whether it did. @throws what it rejects with in that time. */
export async function settledWithin(promise: Promise<unknown>, limitMs: number): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined;
  const limit = new Promise<boolean>((resolve) => {
    timer = setTimeout(() => resolve(false), Math.max(0, Math.min(limitMs, LONGEST_TIMER_MS)));
  });
  try {
    return await Promise.race([promise.then(() => true), limit]);
  } finally {
    clearTimeout(timer);
  }
}
