/**
 * What tests of several rooms make their numbers with.
 */

/** A seeded stream of numbers in [-1, 1). */
export function noise(seed: number): () => number {
  let state = seed | 1;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return state / 2 ** 31;
  };
}

/** The same in [0, 1): dice. */
export function chance(seed: number): () => number {
  const next = noise(seed);
  return () => (next() + 1) / 2;
}
