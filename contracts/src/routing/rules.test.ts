import { describe, expect, it } from 'vitest';
import { parseRoutingRules } from './rules.ts';

const last = { name: 'last', then: { model: 'base' } };
const parse = (...rules: unknown[]) => parseRoutingRules({ version: 1, rules }, 'routing.yaml');

describe('parseRoutingRules', () => {
  it.each([
    [
      'an unknown condition',
      { name: 'a', when: { lable: 'math' }, then: { model: 'math' } },
      /rules\[0\]\.when: .*"lable"/,
    ],
    [
      'an unknown condition inside a group',
      { name: 'a', when: { any: [{ model: 'auto' }, { contry: 'DE' }] }, then: { model: 'math' } },
      /rules\[0\]\.when\.any\[1\]: .*"contry"/,
    ],
    ['an unknown rule field', { ...last, whem: {} }, /rules\[0\]: .*"whem"/],
    [
      'an unknown action',
      { name: 'a', when: { model: 'x' }, then: { expert: 'math' } },
      /rules\[0\]\.then: expected \{ model, regions\?, limits\? \} or \{ refuse \}/,
    ],
    [
      'a pattern RE2 lacks',
      { name: 'a', when: { prompt: '(?=x)' }, then: { model: 'math' } },
      /rules\[0\]\.when\.prompt: not a pattern in RE2 syntax/,
    ],
    ['an empty condition', { name: 'a', when: {}, then: { model: 'math' } }, /leave `when` out/],
    [
      'an empty range',
      { name: 'a', when: { confidence: {} }, then: { model: 'math' } },
      /rules\[0\]\.when\.confidence: needs min or max/,
    ],
    [
      'a range upside down',
      { name: 'a', when: { promptChars: { min: 9, max: 1 } }, then: { model: 'math' } },
      /min is above max/,
    ],
    [
      'a header name in capitals',
      { name: 'a', when: { header: { 'X-Team': 'blue' } }, then: { model: 'math' } },
      /lower-case/,
    ],
    ['a malformed model', { name: 'a', when: { model: 'x' }, then: { model: 'Math!' } }, /"Math!" is no model name/],
    ['the model "auto"', { name: 'a', when: { model: 'x' }, then: { model: 'auto' } }, /"auto" is what rules resolve/],
    ['a name unfit for a header', { ...last, name: 'a b' }, /rules\[0\]\.name: expected 1 to 64 letters/],
    [
      'a rule that shadows the rest',
      { name: 'a', then: { model: 'math' } },
      /"a" matches everything, so the rules after it/,
    ],
    ['a name used twice', { name: 'last', when: { model: 'x' }, then: { model: 'math' } }, /"last" is taken/],
  ])('refuses %s, naming rule and field', (_, rule, message) => {
    expect(() => parse(rule, last)).toThrow(message);
    expect(() => parse(rule, last)).toThrow(/^routing\.yaml: /);
  });

  it('refuses rules that leave a request undecided', () => {
    expect(() => parse({ name: 'a', when: { model: 'x' }, then: { model: 'math' } })).toThrow(/must match everything/);
  });

  it('reads one value where a list may stand', () => {
    const { rules } = parse({ name: 'a', when: { model: 'x', label: ['y', 'z'] }, then: { refuse: 'no' } }, last);
    expect(rules[0]?.when).toEqual({ model: ['x'], label: ['y', 'z'] });
    expect(rules[0]?.then).toEqual({ refuse: 'no' });
  });
});
