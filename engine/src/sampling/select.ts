/**
 * Partial selection: the likeliest tokens that together reach a target, without sorting a vocabulary.
 *
 * Tokens are ordered by logit, the largest first, and by id among equals, so that every cut is unambiguous.
 */

/**
 * Moves to the front of `ids[0 … count - 1]` the shortest run of likeliest tokens whose weights reach `target`, and returns its length (`count` where
 * all of them don't). Expected time is linear. Without `weights` every token weighs 1.
 *
 * The last of the run stands at its end: `ids[length - 1]` is the least likely token that is in.
 */
export function selectLikeliest(
  ids: Int32Array, // (≥ count), permuted
  count: number,
  logits: Float32Array, // (vocab)
  target: number,
  weights?: Float64Array, // (vocab)
): number {
  let start = 0;
  let end = count;
  let missing = target;
  while (end - start > 1) {
    const split = partition(ids, start, end, logits);
    let sum = 0;
    if (weights === undefined) sum = split + 1 - start;
    else for (let i = start; i <= split; i++) sum += weights[ids[i] ?? 0] ?? 0;
    if (sum < missing) {
      missing -= sum;
      start = split + 1;
      continue;
    }
    // Reached with the pivot; whether it is needed is decided by what stands before it.
    const pivotWeight = weights === undefined ? 1 : (weights[ids[split] ?? 0] ?? 0);
    if (sum - pivotWeight < missing) return split + 1;
    end = split;
  }
  return Math.min(count, start + 1);
}

/** Puts a pivot in its place within `ids[start … end - 1]`, what is likelier before it; returns the place. */
function partition(ids: Int32Array, start: number, end: number, logits: Float32Array): number {
  const last = end - 1;
  swap(ids, medianOf(ids, start, (start + end) >>> 1, last, logits), last);
  const pivot = ids[last] ?? 0;
  const pivotLogit = logits[pivot] ?? 0;
  let split = start;
  for (let i = start; i < last; i++) {
    const id = ids[i] ?? 0;
    const logit = logits[id] ?? 0;
    if (logit < pivotLogit || (logit === pivotLogit && id > pivot)) continue;
    ids[i] = ids[split] ?? 0;
    ids[split++] = id;
  }
  swap(ids, split, last);
  return split;
}

function medianOf(ids: Int32Array, a: number, b: number, c: number, logits: Float32Array): number {
  const first = logits[ids[a] ?? 0] ?? 0;
  const second = logits[ids[b] ?? 0] ?? 0;
  const third = logits[ids[c] ?? 0] ?? 0;
  if (first < second) return second < third ? b : first < third ? c : a;
  return first < third ? a : second < third ? c : b;
}

function swap(ids: Int32Array, a: number, b: number): void {
  const id = ids[a] ?? 0;
  ids[a] = ids[b] ?? 0;
  ids[b] = id;
}
