import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parseModelName } from '../model-name.ts';
import { type SoftMixture, softMixture, softMixtureSchema } from './soft-mixture.ts';

const settings = (given: Partial<SoftMixture> = {}): SoftMixture =>
  softMixtureSchema.parse({ from: 'probabilities', ...given });
const same = (label: string) => label;

describe('a mixture from probabilities', () => {
  it('weighs the likeliest labels’ experts, in steps, named in one order', () => {
    expect(softMixture({ math: 0.68, chat: 0.29, code: 0.03 }, settings(), same)).toBe('chat:0.3+math:0.7');
    // What is much alike is the same mixture.
    expect(softMixture({ math: 0.69, chat: 0.29, code: 0.02 }, settings(), same)).toBe('chat:0.3+math:0.7');
    expect(softMixture({ math: 0.9, chat: 0.1 }, settings(), same)).toBe('math');
    expect(softMixture({ math: 0.5, chat: 0.3, code: 0.2 }, settings({ top: 3 }), same)).toBe(
      'chat:0.3+code:0.2+math:0.5',
    );
  });

  it('is sharper or more even by its temperature, and adds up to its total', () => {
    const two = { math: 0.8, chat: 0.2 };
    expect(softMixture(two, settings({ temperature: 2 }), same)).toBe('chat:0.35+math:0.65');
    expect(softMixture(two, settings({ temperature: 0.5 }), same)).toBe('chat:0.05+math:0.95');
    expect(softMixture(two, settings({ total: 1.5 }), same)).toBe('chat:0.3+math:1.2');
  });

  it('takes experts from where labels are mapped: together, as the base, or not at all', () => {
    const map: Record<string, string> = { sums: 'math@next', proofs: 'math', talk: 'base' };
    const expertOf = (label: string) => map[label];
    expect(softMixture({ sums: 0.5, proofs: 0.2, talk: 0.3 }, settings({ top: 3 }), expertOf)).toBe('math@next:0.7');
    expect(softMixture({ talk: 0.9, sums: 0.1 }, settings(), expertOf)).toBe('base');
    expect(softMixture({ other: 0.9, none: 0.1 }, settings(), expertOf)).toBeUndefined();
    expect(softMixture({}, settings(), same)).toBeUndefined();
  });

  it('is a model name whose weights add up to the total in whole steps, whatever the probabilities', () => {
    fc.assert(
      fc.property(
        fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { minLength: 1, maxLength: 10 }),
        fc.integer({ min: 1, max: 8 }),
        fc.constantFrom([1, 0.05], [1, 0.25], [2, 0.1], [0.5, 0.5]),
        fc.double({ min: 0.05, max: 20, noNaN: true }),
        (values, top, [total = 1, step = 1], temperature) => {
          const probabilities = Object.fromEntries(values.map((value, i) => [`e${i}`, value]));
          const name = softMixture(probabilities, settings({ top, total, step, temperature, min: 0.01 }), same) ?? '';
          const model = parseModelName(name);
          const weights = model.kind === 'mixture' ? model.terms.map(({ weight }) => weight) : [];
          expect(weights.reduce((sum, weight) => sum + weight, 0)).toBeCloseTo(total, 9);
          for (const weight of weights) expect(Math.abs(weight / step - Math.round(weight / step))).toBeLessThan(1e-6);
        },
      ),
    );
  });
});
