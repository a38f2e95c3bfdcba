import fc from 'fast-check';
import { expect, it } from 'vitest';
import { type Comparison, similarityOf } from './compare.ts';
import { reportOf } from './report.ts';

it('texts are alike by the words that they share', () => {
  expect(similarityOf('The answer is 42.', 'the ANSWER, is: 42')).toBe(1);
  expect(similarityOf('the cat sat', 'the cat lay down')).toBeCloseTo((2 * 2) / 7);
  expect(similarityOf('one two', 'three')).toBe(0);
  expect(similarityOf('a a a', 'a')).toBe(0.5);
  // Scripts without spaces go by their characters.
  expect(similarityOf('東京は晴れ', '東京は雨')).toBeCloseTo((2 * 3) / 9);
  expect(similarityOf('naïve café', 'NAÏVE CAFÉ')).toBe(1);
  expect([similarityOf('', ''), similarityOf('…', '!'), similarityOf('', 'word')]).toEqual([1, 1, 0]);
});

it('likeness is mutual, in [0, 1], and 1 for the same words in any order', () => {
  const words = fc.array(fc.string({ unit: fc.constantFrom('a', 'b', 'ü', '7', '字'), minLength: 1, maxLength: 3 }));
  fc.assert(
    fc.property(words, words, (a, b) => {
      const found = similarityOf(a.join(' '), b.join(', '));
      expect(found).toBe(similarityOf(b.join(' '), a.join(' ')));
      expect(found).toBeGreaterThanOrEqual(0);
      expect(found).toBeLessThanOrEqual(1);
      expect(similarityOf(a.join(' '), a.toReversed().join(' '))).toBe(1);
    }),
  );
});

const comparison = (change: Partial<Comparison>): Comparison => ({
  object: 'shadow.comparison',
  decision_id: 'id',
  time: '2026-11-28T10:00:00.000Z',
  tenant: null,
  rule: 'law',
  model: 'law',
  digests: 'a'.repeat(64),
  shadow_model: 'law@next',
  shadow_digests: 'b'.repeat(64),
  result: 'same',
  is_greedy: true,
  similarity: 1,
  is_finish_same: true,
  tokens: [10, 12],
  ms: [100, 200],
  error: null,
  texts: null,
  ...change,
});

it('a report sums each pair of versions, and names those that agree least', () => {
  const different = (decision_id: string, similarity: number) =>
    comparison({
      decision_id,
      similarity,
      result: 'different',
      is_greedy: false,
      is_finish_same: false,
      ms: [300, 50],
    });
  const lost = { result: 'failed', shadow_digests: null, similarity: null, is_finish_same: null } as const;
  const { pairs, comparisons } = reportOf([
    comparison({}),
    different('far', 0.1),
    different('near', 0.9),
    comparison({ time: '2026-11-28T09:00:00.000Z' }),
    comparison({ ...lost, tokens: [9, null], ms: [90, null], error: 'no_region_answered' }),
    comparison({ rule: 'other' }),
  ]);
  expect(comparisons).toBe(6);
  expect(pairs).toHaveLength(3);
  expect(pairs[0]).toMatchObject({
    rule: 'law',
    compared: 4,
    failed: 0,
    same: 2,
    greedy: { compared: 2, same: 2 },
    same_finish: 2,
    similarity: { mean: 0.75, p50: 0.9, p10: 0.1 },
    tokens: [10, 12],
    ms_p50: [100, 50],
    ms_p95: [300, 200],
    from: '2026-11-28T09:00:00.000Z',
    to: '2026-11-28T10:00:00.000Z',
    examples: [{ decision_id: 'far' }, { decision_id: 'near' }],
  });
  expect(pairs[1]).toMatchObject({ compared: 0, failed: 1, errors: { no_region_answered: 1 }, ms_p50: [null, null] });
});
