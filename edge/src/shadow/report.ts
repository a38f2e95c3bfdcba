/**
 * Comparisons, summed: how an answering model and its shadow differ, and what each takes.
 */
import { quantile } from '../quantile.ts';
import type { Comparison } from './compare.ts';

/** Of each pair. */
const EXAMPLES = 5;

export type ShadowReport = ReturnType<typeof reportOf>;
export type ShadowPair = ShadowReport['pairs'][number];

/** One entry for each rule, model and shadow, by their versions; pairs have the answering model's first. Times in milliseconds. */
export function reportOf(comparisons: readonly Comparison[]) {
  const pairs = new Map<string, Comparison[]>();
  for (const one of comparisons) {
    const key = JSON.stringify([one.rule, one.model, one.digests, one.shadow_model, one.shadow_digests]);
    const pair = pairs.get(key);
    if (pair === undefined) pairs.set(key, [one]);
    else pair.push(one);
  }
  const sorted = [...pairs.values()].sort((a, b) => b.length - a.length);
  return { object: 'shadow.report' as const, comparisons: comparisons.length, pairs: sorted.flatMap(pairOf) };
}

function pairOf(all: readonly Comparison[]) {
  const [first] = all;
  if (first === undefined) return [];
  const { rule, model, digests, shadow_model, shadow_digests } = first;
  const answered = all.filter(({ result }) => result !== 'failed');
  const greedy = answered.filter(({ is_greedy }) => is_greedy);
  const similarities = answered.flatMap(({ similarity }) => similarity ?? []);
  const times = all.map(({ time }) => time).sort();
  const errors = new Map<string, number>();
  for (const { error } of all) if (error !== null) errors.set(error, (errors.get(error) ?? 0) + 1);
  return [
    {
      rule,
      model,
      digests,
      shadow_model,
      shadow_digests,
      from: times[0] ?? null,
      to: times.at(-1) ?? null,
      compared: answered.length,
      failed: all.length - answered.length,
      errors: Object.fromEntries(errors),
      same: count(answered, 'same'),
      /** Of those at temperature 0. */
      greedy: { compared: greedy.length, same: count(greedy, 'same') },
      same_finish: answered.filter(({ is_finish_same }) => is_finish_same).length,
      similarity: {
        mean: mean(similarities),
        p50: quantile(similarities, 0.5) ?? null,
        p10: quantile(similarities, 0.1) ?? null,
      },
      tokens: sides(answered, ({ tokens }) => tokens, mean),
      ms_p50: sides(
        answered,
        ({ ms }) => ms,
        (values) => quantile(values, 0.5),
      ),
      ms_p95: sides(
        answered,
        ({ ms }) => ms,
        (values) => quantile(values, 0.95),
      ),
      /** Those that agree least. */
      examples: answered
        .toSorted((a, b) => (a.similarity ?? 0) - (b.similarity ?? 0))
        .filter(({ result }) => result === 'different')
        .slice(0, EXAMPLES)
        .map(({ decision_id, similarity, texts }) => ({ decision_id, similarity, texts })),
    },
  ];
}

function count(comparisons: readonly Comparison[], wanted: Comparison['result']): number {
  return comparisons.filter(({ result }) => result === wanted).length;
}

function sides(
  comparisons: readonly Comparison[],
  pair: (one: Comparison) => Comparison['ms'],
  sum: (values: readonly number[]) => number | null | undefined,
): [number | null, number | null] {
  return [
    sum(comparisons.flatMap((one) => pair(one)[0] ?? [])) ?? null,
    sum(comparisons.flatMap((one) => pair(one)[1] ?? [])) ?? null,
  ];
}

function mean(values: readonly number[]): number | null {
  return values.length === 0 ? null : rounded(values.reduce((sum, value) => sum + value, 0) / values.length);
}

function rounded(value: number): number {
  return Math.round(value * 1e3) / 1e3;
}
