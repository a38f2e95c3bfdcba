import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { argmax } from './logprobs.ts';
import { type SamplingParams, samplingParams } from './params.ts';
import { gumbel } from './philox.ts';
import { Sampler, type SamplerContext, SamplingScratch } from './sampler.ts';

const VOCAB = 24;
const STOP = VOCAB - 1;

/** The obvious way, over arrays of pairs: vLLM's order of steps, full sorts. */
class NaiveSampler {
  readonly params: SamplingParams;
  readonly prompt: readonly number[];
  readonly answer: number[];

  constructor(params: SamplingParams, { prompt, generated }: SamplerContext) {
    this.params = params;
    this.prompt = prompt;
    this.answer = [...generated];
  }

  /** Each token with its probability, those that may not be drawn left out. */
  distribution(raw: Float32Array, allowed: (id: number) => boolean): { id: number; probability: number }[] {
    const { params, prompt, answer } = this;
    const count = (id: number) => answer.filter((other) => other === id).length;
    const { fround } = Math;
    // Rounded after each step, as logits are held in 32 bits.
    const adjusted = [...raw].map((given, id) => {
      let logit = params.logitBias
        .filter(([biased]) => biased === id)
        .reduce((sum, [, bias]) => fround(sum + bias), given);
      if (prompt.includes(id) || answer.includes(id))
        logit = fround(logit > 0 ? logit / params.repetitionPenalty : logit * params.repetitionPenalty);
      if (count(id) > 0) logit = fround(logit - params.frequencyPenalty * count(id) - params.presencePenalty);
      return { id, logit };
    });
    let left = adjusted
      .filter(({ id }) => allowed(id) && (id !== STOP || answer.length >= params.minTokens))
      .sort((a, b) => b.logit - a.logit || a.id - b.id);
    if (params.temperature === 0) return left.slice(0, 1).map(({ id }) => ({ id, probability: 1 }));
    const normalise = (list: typeof left) => {
      const weights = list.map(({ logit }) => Math.exp((logit - (list[0]?.logit ?? 0)) / params.temperature));
      const sum = weights.reduce((total, weight) => total + weight, 0);
      return list.map((entry, i) => ({ ...entry, probability: (weights[i] ?? 0) / sum }));
    };
    const top = normalise(left)[0]?.probability ?? 0;
    left = normalise(left).filter(({ probability }) => probability >= params.minP * top * (1 - 1e-12));
    if (params.topK > 0) left = left.slice(0, params.topK);
    let sum = 0;
    const ranked = normalise(left);
    const kept = ranked.filter(({ probability }) => {
      const isNeeded = sum < params.topP;
      sum += probability;
      return isNeeded;
    });
    return normalise(kept).sort((a, b) => a.id - b.id);
  }

  /** Every token that rounding may let the next draw come to. */
  candidates(raw: Float32Array, allowed: (id: number) => boolean): number[] {
    const { seed, choice, temperature } = this.params;
    const place = this.answer.length;
    const scores = this.distribution(raw, allowed).map(({ id, probability }) => ({
      id,
      score: Math.log(probability) + (temperature === 0 ? 0 : gumbel({ seed, choice, place }, id)),
    }));
    const highest = Math.max(...scores.map(({ score }) => score));
    return scores.filter(({ score }) => score > highest - 1e-9).map(({ id }) => id);
  }
}

// On a grid: differences are none or clear ones, so that no threshold lies between rounding errors.
const logit = fc.oneof(
  fc.integer({ min: -128, max: 128 }).map((step) => step / 16),
  fc.integer({ min: -2, max: 2 }),
);
const logitRows = fc.array(
  fc.array(logit, { minLength: VOCAB, maxLength: VOCAB }).map((row) => Float32Array.from(row)),
  { minLength: 1, maxLength: 6 },
);
const unless = <T>(usual: T, other: fc.Arbitrary<T>) => fc.oneof(fc.constant(usual), other);
const anyParams: fc.Arbitrary<SamplingParams> = fc.record({
  temperature: fc.oneof(fc.constant(0), fc.double({ min: 0.05, max: 2, noNaN: true })),
  // Away from sums that equal it but for rounding.
  topP: unless(
    1,
    fc.integer({ min: 1, max: 99 }).map((percent) => percent / 100 + 1e-5),
  ),
  topK: unless(0, fc.integer({ min: 1, max: VOCAB + 2 })),
  minP: unless(0, fc.double({ min: 0.01, max: 0.99, noNaN: true })),
  repetitionPenalty: unless(1, fc.double({ min: 0.5, max: 2, noNaN: true })),
  presencePenalty: unless(0, fc.double({ min: -2, max: 2, noNaN: true })),
  frequencyPenalty: unless(0, fc.double({ min: -2, max: 2, noNaN: true })),
  logitBias: fc.uniqueArray(fc.tuple(fc.nat(VOCAB - 1), fc.double({ min: -100, max: 100, noNaN: true })), {
    maxLength: 3,
    selector: ([id]) => id,
  }),
  seed: fc.maxSafeInteger(),
  choice: fc.nat(3),
  minTokens: fc.nat(3),
});
const tokens = fc.array(fc.nat(VOCAB - 2), { maxLength: 8 });
const anyMask = fc.option(fc.uniqueArray(fc.nat(VOCAB - 2), { minLength: 1 }), { nil: undefined });

const scratch = new SamplingScratch(VOCAB);
const maskOf = (ids: readonly number[]) => Uint32Array.of(ids.reduce((bits, id) => bits | (1 << id), 0));

describe('the sampler', () => {
  it('chooses what a naive implementation of the same steps chooses', () => {
    fc.assert(
      fc.property(anyParams, logitRows, tokens, tokens, anyMask, (params, rows, prompt, generated, mask) => {
        const constraint = mask && { allowed: () => maskOf(mask), accept: () => undefined };
        const context = { prompt, generated, stopIds: [STOP], constraint };
        const sampler = new Sampler(params, scratch, context);
        const naive = new NaiveSampler(params, context);
        for (const row of rows) {
          const before = row.slice();
          const token = sampler.next(row);
          const allowed = (id: number) => mask === undefined || mask.includes(id);
          expect(naive.candidates(row, allowed)).toContain(token);
          expect(row, 'the logits are left as they are').toEqual(before);
          naive.answer.push(token);
        }
      }),
      { numRuns: 1000 },
    );
  });

  it('goes on after any of its tokens as if it had never been interrupted, with other sequences between', () => {
    fc.assert(
      fc.property(anyParams, logitRows, tokens, fc.nat(6), (params, rows, prompt, at) => {
        const context = { prompt, generated: [], stopIds: [] };
        const whole = new Sampler(params, scratch, context);
        const answer = rows.map((row) => whole.next(row));
        const resumed = new Sampler(params, scratch, { ...context, generated: answer.slice(0, at) });
        const other = new Sampler(samplingParams({ seed: 1, topK: 3, presencePenalty: 1 }), scratch, context);
        const rest = rows.slice(at).map((row) => {
          other.next(row);
          return resumed.next(row);
        });
        expect(rest).toEqual(answer.slice(at));
      }),
    );
  });

  it('at temperature 0 takes the likeliest token', () => {
    fc.assert(
      fc.property(logitRows, ([row = new Float32Array(VOCAB)]) => {
        const params = samplingParams({ temperature: 0, topK: 5, topP: 0.5 });
        expect(new Sampler(params, scratch, { prompt: [], generated: [], stopIds: [] }).next(row)).toBe(argmax(row));
      }),
    );
  });

  it.each([
    ['all tokens', {}],
    ['top_k', { topK: 5 }],
    ['top_p', { topP: 0.8 }],
    ['min_p and a temperature', { minP: 0.2, temperature: 1.5 }],
    ['everything', { minP: 0.05, temperature: 0.8, topK: 10, topP: 0.9 }],
  ])('follows the distribution (%s): chi-square over 20,000 seeds', (_, change) => {
    const row = Float32Array.from({ length: VOCAB }, (_, id) => Math.sin(id * 1.7) * 2);
    const draws = 20_000;
    const context = { prompt: [], generated: [], stopIds: [] };
    const expected = new NaiveSampler(samplingParams(change), context).distribution(row, () => true);
    const counts = new Map<number, number>();
    for (let seed = 0; seed < draws; seed++) {
      const id = new Sampler(samplingParams({ ...change, seed }), scratch, context).next(row);
      counts.set(id, (counts.get(id) ?? 0) + 1);
    }
    expect([...counts.keys()].sort((a, b) => a - b)).toEqual(expected.map(({ id }) => id));
    const chiSquare = expected.reduce((sum, { id, probability }) => {
      const mean = probability * draws;
      return sum + ((counts.get(id) ?? 0) - mean) ** 2 / mean;
    }, 0);
    // 99.9th percentile for the largest number of degrees of freedom here, 23; with fewer it only grows milder by Wilson and Hilferty's formula.
    const freedom = expected.length - 1;
    const limit = freedom * (1 - 2 / (9 * freedom) + 3.09 * Math.sqrt(2 / (9 * freedom))) ** 3;
    expect(chiSquare).toBeLessThan(limit);
  });

  it('selects among a whole vocabulary as a sort does', () => {
    const size = 50_000;
    const large = new SamplingScratch(size);
    const draw = { seed: 3, choice: 0, place: 0 };
    const row = Float32Array.from(
      { length: size },
      (_, id) => 12 * Math.exp(-Math.exp(-gumbel(draw, id))) + (id % 7 === 0 ? 3 : 0),
    );
    const order = [...row.keys()].sort((a, b) => (row[b] ?? 0) - (row[a] ?? 0) || a - b);
    const context = { prompt: [], generated: [], stopIds: [] };
    const drawn = new Set(
      Array.from({ length: 1_000 }, (_, seed) =>
        new Sampler(samplingParams({ topK: 40, seed }), large, context).next(row),
      ),
    );
    expect([...drawn].sort((a, b) => a - b)).toEqual(order.slice(0, 40).sort((a, b) => a - b));
  });
});
