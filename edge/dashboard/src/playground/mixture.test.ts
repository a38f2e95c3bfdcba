import { formatModelName, parseModelName } from '@signpost/contracts';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { mixableExperts, mixtureName } from './mixture.ts';

it('names mixtures as the edge does', () => {
  expect(mixtureName({ math: 1, chat: 0.3 })).toBe('math:1+chat:0.3');
  expect(mixtureName({ math: 1, chat: 0 })).toBe('math');
  expect(mixtureName({ math: 0.5 })).toBe('math:0.5');
  expect(mixtureName({ math: 0 })).toBe('base');
});

it('names only what the edge takes, and writes the same', () => {
  const weights = fc.dictionary(
    fc.constantFrom('math', 'chat', 'code', 'law-2'),
    fc.double({ min: 0, max: 2, noNaN: true }),
  );
  fc.assert(
    fc.property(weights, (of) => {
      const name = mixtureName(of);
      expect(formatModelName(parseModelName(name))).toBe(name);
    }),
  );
});

it('mixes experts alone', () => {
  expect(mixableExperts(['auto', 'base', 'math', 'math@stable', 'a:1+b:2'])).toEqual(['math']);
});
