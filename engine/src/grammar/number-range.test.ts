import fc from 'fast-check';
import { expect, it } from 'vitest';
import { Automaton } from './automaton.ts';
import { type Bounds, integerRange, numberRange } from './number-range.ts';
import type { Rule } from './rule.ts';

/** Rules that can be reached, each as often as it is. */
function sizeOf(rule: Rule | undefined): number {
  if (rule === undefined) return 0;
  switch (rule.kind) {
    case 'byte':
      return 1;
    case 'sequence':
      return rule.items.reduce((sum, item) => sum + sizeOf(item), 1);
    case 'choice':
      return rule.options.reduce((sum, option) => sum + sizeOf(option), 1);
    case 'repeat':
      return 1 + sizeOf(rule.item);
    case 'reference':
      return 1;
    default:
      return rule satisfies never;
  }
}

function reads(rule: Rule, text: string): boolean {
  const automaton = new Automaton(rule);
  let state: ReturnType<Automaton['step']> = automaton.start;
  for (const byte of new TextEncoder().encode(text)) state = state && automaton.step(state, byte);
  return state?.isComplete ?? false;
}

const bound = fc.integer({ min: -(10 ** 15), max: 10 ** 15 });

it.each<Bounds>([{ minimum: 0 }, { maximum: 0 }, { minimum: 1, maximum: 10 ** 14 }, { exclusiveMinimum: -1 }])(
  '%o is a few rules, however many digits it allows',
  (bounds) => {
    expect(sizeOf(integerRange(bounds))).toBeLessThan(2_000);
    expect(sizeOf(numberRange(bounds))).toBeLessThan(10_000);
  },
);

it('is a few rules between any two bounds', () => {
  fc.assert(
    fc.property(bound, bound, (a, b) => {
      const rule = integerRange({ minimum: Math.min(a, b), maximum: Math.max(a, b) });
      expect(sizeOf(rule)).toBeLessThan(20_000);
    }),
  );
});

it('reads the integers within its bounds, and no others', () => {
  const small = fc.integer({ min: -1_200, max: 1_200 });
  fc.assert(
    fc.property(small, small, fc.array(small, { minLength: 20 }), (a, b, values) => {
      const [minimum, maximum] = [Math.min(a, b), Math.max(a, b)];
      const rule = integerRange({ minimum, maximum }) ?? expect.unreachable('there is one');
      const edges = [minimum - 1, minimum, maximum, maximum + 1];
      for (const value of [...values, ...edges])
        expect([value, reads(rule, String(value))]).toEqual([value, value >= minimum && value <= maximum]);
    }),
    { numRuns: 30 },
  );
});
