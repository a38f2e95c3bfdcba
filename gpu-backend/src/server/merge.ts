/**
 * Several streams as one.
 */

/** The streams' items as they come, each with its stream's index. Leaving the loop, or a stream that throws, ends them all. */
export async function* merge<T>(streams: readonly AsyncGenerator<T>[]): AsyncGenerator<{ index: number; item: T }> {
  const waitFor = async (index: number) => ({ index, result: await streams[index]?.next() });
  const next = new Map(streams.map((_, index) => [index, waitFor(index)] as const));
  try {
    while (next.size > 0) {
      const { index, result } = await Promise.race(next.values());
      if (result === undefined || result.done === true) {
        next.delete(index);
        continue;
      }
      yield { index, item: result.value };
      next.set(index, waitFor(index));
    }
  } finally {
    // What they still throw is of no more interest.
    for (const pending of next.values()) pending.catch(() => undefined);
    for (const stream of streams) void stream.return(undefined).catch(() => undefined);
  }
}
