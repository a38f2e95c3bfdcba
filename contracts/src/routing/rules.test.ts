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
      /rules\[0\]\.then: expected \{ model, … \}, \{ split, by\?, … \} or \{ mixture, otherwise, … \}.*or \{ refuse \}/,
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
    ['no share', { name: 'a', when: { percent: 0 }, then: { model: 'math' } }, /rules\[0\]\.when\.percent/],
    [
      'a share by something else',
      { name: 'a', when: { percent: { of: 10, by: 'moon' } }, then: { model: 'math' } },
      /rules\[0\]\.when\.percent/,
    ],
    [
      'a time zone that is none',
      { name: 'a', when: { time: { from: '08:00', zone: 'Mars/Base' } }, then: { model: 'math' } },
      /rules\[0\]\.when\.time\.zone: is no time zone/,
    ],
    [
      'a time of day that is none',
      { name: 'a', when: { time: { from: '8:00' } }, then: { model: 'math' } },
      /rules\[0\]\.when\.time\.from: expected a time of day/,
    ],
    [
      'a window of nothing',
      { name: 'a', when: { time: { zone: 'UTC' } }, then: { model: 'math' } },
      /neither days nor times/,
    ],
    ['a path with a hole', { name: 'a', when: { body: { 'a..b': 1 } }, then: { model: 'math' } }, /dotted path/],
    [
      'a split of one',
      { name: 'a', when: { model: 'x' }, then: { split: [{ model: 'math', weight: 1 }] } },
      /rules\[0\]\.then\.split: Too small/,
    ],
    [
      'a system prompt for what has none',
      { name: 'a', when: { model: 'x' }, then: { model: 'math', systemPrefix: 'Be brief.' } },
      /rules\[0\]\.then\.systemPrefix: is for chats only: give the rule `path: \/v1\/chat\/completions`/,
    ],
    ['a malformed model', { name: 'a', when: { model: 'x' }, then: { model: 'Math!' } }, /"Math!" is no model name/],
    ['the model "auto"', { name: 'a', when: { model: 'x' }, then: { model: 'auto' } }, /"auto" is what rules resolve/],
    ['a name unfit for a header', { ...last, name: 'a b' }, /rules\[0\]\.name: expected 1 to 64 letters/],
    [
      'a rule that shadows the rest',
      { name: 'a', then: { model: 'math' } },
      /"a" matches everything, so the rules after it/,
    ],
    [
      'a label without what answers otherwise',
      { name: 'a', when: { model: 'x' }, then: { model: 'label' } },
      /rules\[0\]\.then\.otherwise: is missing/,
    ],
    [
      'what answers otherwise where one model always does',
      { name: 'a', when: { model: 'x' }, then: { model: 'math', otherwise: 'chat' } },
      /rules\[0\]\.then\.otherwise: goes with `model: label`/,
    ],
    [
      'a mixture that its steps do not make up',
      {
        name: 'a',
        when: { model: 'x' },
        then: { mixture: { from: 'probabilities', total: 1, step: 0.3 }, otherwise: 'chat' },
      },
      /rules\[0\]\.then\.mixture: `total` is no multiple/,
    ],
    [
      'a shadow of what the app names',
      { name: 'a', when: { model: 'x' }, then: { model: 'math', shadow: { model: 'requested' } } },
      /rules\[0\]\.then\.shadow\.model: name an expert/,
    ],
    [
      'a shadow of what answers anyway',
      { name: 'a', when: { model: 'x' }, then: { model: 'math', shadow: { model: 'math' } } },
      /rules\[0\]\.then\.shadow\.model: is the model that answers/,
    ],
    [
      'a cache of no time',
      { name: 'a', when: { model: 'x' }, then: { model: 'math', cache: { seconds: 0 } } },
      /rules\[0\]\.then\.cache\.seconds/,
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
