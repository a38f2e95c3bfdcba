/**
 * Who is asked for: experts by Zipf's law.
 */

/** Draws 0 … n − 1, the k-th with a share of 1 / (k + 1)^exponent. */
export function zipf(n: number, exponent = 1, random: () => number = Math.random): () => number {
  const sums: number[] = [];
  let total = 0;
  for (let k = 1; k <= n; k++) {
    total += k ** -exponent;
    sums.push(total);
  }
  return () => {
    const point = random() * total;
    let low = 0;
    let high = n - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((sums[middle] ?? total) > point) high = middle;
      else low = middle + 1;
    }
    return low;
  };
}
