/**
 * How far two answers to one prompt agree.
 */
import { z } from 'zod';

const pair = z.tuple([z.number().nullable(), z.number().nullable()]);

/** Pairs are the answer's first, then the shadow's. */
export const comparisonSchema = z.object({
  object: z.literal('shadow.comparison'),
  decision_id: z.string(),
  /** When it was answered. */
  time: z.iso.datetime(),
  tenant: z.string().nullable(),
  rule: z.string(),
  model: z.string(),
  digests: z.string().nullable(),
  shadow_model: z.string(),
  shadow_digests: z.string().nullable(),
  /** `failed`: nobody answered. */
  result: z.enum(['same', 'different', 'failed']),
  /** Temperature 0: the same model says the same again. */
  is_greedy: z.boolean(),
  /** See `similarityOf`; null where it failed. */
  similarity: z.number().nullable(),
  is_finish_same: z.boolean().nullable(),
  tokens: pair,
  ms: pair,
  /** Why it failed. */
  error: z.string().nullable(),
  /** Null unless prompts are recorded. */
  texts: z.object({ prompt: z.string(), answer: z.string(), shadow: z.string() }).nullable(),
});
export type Comparison = z.output<typeof comparisonSchema>;

/** What is longer is judged by its beginning. */
const MAX_WORDS = 4_096;

/**
 * The F1 of the words that two texts share, case and punctuation aside: 1 for the same words in any order, 0 where they have none in common. Two texts without a
 * word are alike.
 *
 * Source: the measure of SQuAD (Rajpurkar et al., EMNLP 2016), without its dropping of articles, which is for English alone.
 */
export function similarityOf(a: string, b: string): number {
  const [left, right] = [wordsOf(a), wordsOf(b)];
  if (left.length === 0 || right.length === 0) return left.length === right.length ? 1 : 0;
  const counts = new Map<string, number>();
  for (const word of left) counts.set(word, (counts.get(word) ?? 0) + 1);
  let shared = 0;
  for (const word of right) {
    const count = counts.get(word) ?? 0;
    if (count === 0) continue;
    counts.set(word, count - 1);
    shared++;
  }
  return (2 * shared) / (left.length + right.length);
}

/** A run of letters and digits, or one character of a script that is written without spaces. */
const WORDS =
  /[\p{sc=Han}\p{sc=Hira}\p{sc=Kana}\p{sc=Thai}]|(?:(?![\p{sc=Han}\p{sc=Hira}\p{sc=Kana}\p{sc=Thai}])[\p{L}\p{N}\p{M}])+/gu;

function wordsOf(text: string): string[] {
  return (text.toLowerCase().match(WORDS) ?? []).slice(0, MAX_WORDS);
}
