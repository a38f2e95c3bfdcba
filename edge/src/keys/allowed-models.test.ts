import { expect, it } from 'vitest';
import { allowsModel, modelPatternSchema } from './allowed-models.ts';

it.each([
  [['*'], ['base', 'math', 'math@stable', 'math:1+chat:0.3'], []],
  [['math'], ['math', 'math@stable', 'math:0.5'], ['base', 'chat', 'math:1+chat:0.3', 'maths', 'auto', '']],
  [['base'], ['base'], ['math']],
  [
    ['math@stable', 'chat'],
    ['math@stable', 'math@stable:1+chat:0.3'],
    ['math', 'math@next', 'math@stable:1+code:1'],
  ],
  [['law-*'], ['law-eu', 'law-eu@next', 'law-eu:1+law-us:1'], ['law', 'base', 'law-eu:1+math:1']],
  [['law-*@stable'], ['law-eu@stable'], ['law-eu']],
])('%j allows %j and not %j', (patterns, allowed, refused) => {
  for (const pattern of patterns) expect(modelPatternSchema.safeParse(pattern).success).toBe(true);
  for (const model of allowed) expect([model, allowsModel(patterns, model)]).toEqual([model, true]);
  for (const model of refused) expect([model, allowsModel(patterns, model)]).toEqual([model, false]);
});

it.each(['', 'ma*th', '**', 'math:1', 'a+b', 'Math', 'math@'])('%j is no pattern', (pattern) =>
  expect(modelPatternSchema.safeParse(pattern).success).toBe(false),
);
