/** What a timer of Node's can count; a longer one would go off at once. */
export const LONGEST_TIMER_MS = 2 ** 31 - 1;

/** Waits until `promise` settles, at most `limitMs`. @throws what it rejects with in that time. */
export async function settledWithin(promise: Promise<unknown>, limitMs: number): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const limit = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, Math.min(limitMs, LONGEST_TIMER_MS));
  });
  try {
    await Promise.race([promise, limit]);
  } finally {
    clearTimeout(timer);
  }
}
