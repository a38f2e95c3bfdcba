import fc from 'fast-check';
import { expect, it } from 'vitest';
import { isKeyText, newKeyText } from './key-text.ts';

it('a new key is one, and no two are the same', () => {
  const keys = Array.from({ length: 200 }, newKeyText);
  expect(keys.every(isKeyText)).toBe(true);
  expect(new Set(keys).size).toBe(200);
});

it('a key with any letter changed or swapped with its neighbour is none', () => {
  const alphabet = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz';
  fc.assert(
    fc.property(fc.nat(45), fc.constantFrom(...alphabet), (at, letter) => {
      const key = newKeyText();
      const i = 'signpost_'.length + at;
      const changed = key.slice(0, i) + letter + key.slice(i + 1);
      expect(isKeyText(changed)).toBe(changed === key);
      const swapped = key.slice(0, i - 1) + key[i] + key[i - 1] + key.slice(i + 1);
      expect(isKeyText(swapped)).toBe(swapped === key);
    }),
  );
});

it.each(['', 'sk-test', 'signpost_', `signpost_${'0'.repeat(46)}`, `${newKeyText()}0`, newKeyText().slice(1)])(
  '%j is none',
  (text) => expect(isKeyText(text)).toBe(false),
);
