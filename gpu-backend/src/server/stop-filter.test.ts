import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { StopFilter } from './stop-filter.ts';

function filtered(pieces: readonly string[], stops: readonly string[]): string {
  const filter = new StopFilter(stops);
  return pieces.map((piece) => filter.push(piece)).join('') + filter.flush();
}

describe('stop strings', () => {
  it('end the text before the first of them, however it is cut into pieces', () => {
    const letters = fc.string({ unit: fc.constantFrom('a', 'b', 'c'), maxLength: 30 });
    const stop = fc.string({ unit: fc.constantFrom('a', 'b', 'c'), minLength: 1, maxLength: 4 });
    fc.assert(
      fc.property(letters, fc.array(stop, { maxLength: 3 }), fc.array(fc.nat(30)), (text, stops, cuts) => {
        const borders = [...new Set([0, ...cuts.map((cut) => Math.min(cut, text.length)), text.length])].sort(
          (a, b) => a - b,
        );
        const pieces = borders.slice(1).map((border, i) => text.slice(borders[i], border));
        // The stop string that is complete first ends it; of those, the one that began first.
        const ends = stops.flatMap((one) =>
          text.includes(one) ? [{ at: text.indexOf(one), whole: text.indexOf(one) + one.length }] : [],
        );
        const firstWhole = Math.min(...ends.map(({ whole }) => whole));
        const got = filtered(pieces, stops);
        if (ends.length === 0) expect(got).toBe(text);
        else {
          expect(text.startsWith(got)).toBe(true);
          expect(got.length).toBeLessThan(firstWhole);
          for (const one of stops) expect(got.includes(one)).toBe(false);
        }
      }),
    );
  });

  it('hold back no more than could begin one', () => {
    const filter = new StopFilter(['</s>']);
    expect(filter.push('hello <')).toBe('hello ');
    expect(filter.push('b>')).toBe('<b>');
    expect(filter.push('x</s>y')).toBe('x');
    expect(filter.isStopped).toBe(true);
    expect(filter.push('more') + filter.flush()).toBe('');
  });
});
