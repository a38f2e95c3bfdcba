/**
 * A bound on waiting.
 */

class TimeoutError extends Error {
  override readonly name = 'TimeoutError';
}

/**
 * `promise`, or a rejection once `ms` have passed. The promise itself goes on: the caller ends what it stands for.
 *
 * @param what for the error: "<what> for 30000 ms".
 * @throws TimeoutError
 */
export function withTimeout<T>(promise: Promise<T>, ms: number, what: string): Promise<T> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new TimeoutError(`${what} for ${ms} ms`)), ms);
    promise.then(resolve, reject).finally(() => clearTimeout(timer));
  });
}

/** What `promise` comes to, or `otherwise` once `ms` have passed. @throws what it fails with in that time. */
export async function withinOr<T, U>(promise: Promise<T>, ms: number, otherwise: U): Promise<T | U> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const limit = new Promise<U>((resolve) => {
    timer = setTimeout(() => resolve(otherwise), ms);
  });
  try {
    return await Promise.race([promise, limit]);
  } finally {
    if (timer !== undefined) clearTimeout(timer);
  }
}
