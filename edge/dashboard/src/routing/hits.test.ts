import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { parseRulesText } from '../../../src/rules/parse.ts';
import { ruleNames, rulesWithHits } from './hits.ts';

it('names the rules that the edge reads out of the same text, however they are written', () => {
  const texts = [
    readFileSync(new URL('../../../../routing.yaml', import.meta.url), 'utf8'),
    'version: 1\nrules:\n- { name: a, when: { label: x }, then: { model: math } }\n- name: "b-c"\n  then: { model: chat }\n',
    "version: 1\nrules:\n  -\n    name: 'x' # why\n    when: { header: { name: y } }\n    then: { model: math }\n  - then: { model: chat }\n    name: last\n",
  ];
  for (const text of texts) expect(ruleNames(text)).toEqual(parseRulesText(text, 'test').rules.map(({ name }) => name));
});

it('sets hits beside the rules in their order, and rules that are gone after them', () => {
  const text = 'rules:\n  - name: a\n  - name: b\n';
  const hits = [
    { rule: 'old', requests: 1 },
    { rule: 'b', requests: 7 },
  ];
  expect(rulesWithHits(text, hits)).toEqual([
    { rule: 'a', requests: 0, isThere: true },
    { rule: 'b', requests: 7, isThere: true },
    { rule: 'old', requests: 1, isThere: false },
  ]);
});
