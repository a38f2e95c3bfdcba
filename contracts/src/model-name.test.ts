import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { formatModelName, type ModelTerm, parseModelName } from './model-name.ts';
import { Problem } from './problem.ts';

const name = fc.stringMatching(/^[a-z0-9][a-z0-9._-]{0,10}$/).filter((text) => text !== 'base' && text !== 'auto');
const term: fc.Arbitrary<ModelTerm> = fc
  .record({
    expert: name,
    selector: fc.option(fc.stringMatching(/^[a-z0-9]{1,12}$/), { nil: undefined }),
    weight: fc.integer({ min: 1, max: 400 }).map((percent) => percent / 100),
  })
  .map(({ selector, ...rest }) => (selector === undefined ? rest : { ...rest, selector }));

describe('model names', () => {
  it('round-trip', () => {
    const terms = fc.uniqueArray(term, { selector: ({ expert }) => expert, maxLength: 8 });
    fc.assert(
      fc.property(terms, (list) => {
        const model = { kind: 'mixture' as const, terms: list };
        expect(parseModelName(formatModelName(model))).toEqual(model);
      }),
    );
  });

  it('fail only by a Problem that quotes the name', () => {
    fc.assert(
      fc.property(fc.string(), (text) => {
        try {
          parseModelName(text);
        } catch (error) {
          expect(error).toBeInstanceOf(Problem);
          expect(String(error)).toContain(text.slice(0, 200));
        }
      }),
    );
  });

  it.each([
    [
      'math:1+chat:0.3',
      [
        { expert: 'math', weight: 1 },
        { expert: 'chat', weight: 0.3 },
      ],
    ],
    ['math@stable', [{ expert: 'math', selector: 'stable', weight: 1 }]],
    ['base', []],
  ])('%s is understood', (text, terms) => {
    expect(parseModelName(text)).toEqual({ kind: 'mixture', terms });
  });

  it.each(['', 'Math', 'math:0', 'math:9', 'math:x', 'math+math', 'base:1', 'math+auto', 'math@', '../x'])(
    '%j is refused',
    (text) => {
      expect(() => parseModelName(text)).toThrow(Problem);
    },
  );
});
