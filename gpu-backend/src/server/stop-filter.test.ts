import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { StopFilter, type StopString } from './stop-filter.ts';

function filtered(pieces: readonly string[], stops: readonly string[], stopString: StopString): string {
  const filter = new StopFilter(stops, stopString);
  return pieces.map((piece) => filter.push(piece)).join('') + filter.flush();
}

/** Reads character by character: the stop string that is complete first ends the text; of several, the longest. */
function cut(text: string, stops: readonly string[], stopString: StopString): string {
  for (let end = 1; end <= text.length; end++) {
    const complete = stops.filter((stop) => text.slice(0, end).endsWith(stop)).map((stop) => stop.length);
    if (complete.length > 0) return text.slice(0, stopString === 'kept' ? end : end - Math.max(...complete));
  }
  return text;
}

describe('stop strings', () => {
  it('end the text before the first of them, however it is cut into pieces', () => {
    const letters = fc.string({ unit: fc.constantFrom('a', 'b', 'c'), maxLength: 30 });
    const stop = fc.string({ unit: fc.constantFrom('a', 'b', 'c'), minLength: 1, maxLength: 4 });
    fc.assert(
      fc.property(
        letters,
        fc.array(stop, { maxLength: 3 }),
        fc.array(fc.nat(30)),
        fc.constantFrom<StopString>('kept', 'dropped'),
        (text, stops, cuts, kept) => {
          const borders = [...new Set([0, ...cuts.map((cut) => Math.min(cut, text.length)), text.length])].sort(
            (a, b) => a - b,
          );
          const pieces = borders.slice(1).map((border, i) => text.slice(borders[i], border));
          expect(filtered(pieces, stops, kept)).toBe(cut(text, stops, kept));
        },
      ),
    );
  });

  it('hold back no more than could begin one', () => {
    const filter = new StopFilter(['</s>'], 'dropped');
    expect(filter.push('hello <')).toBe('hello ');
    expect(filter.push('b>')).toBe('<b>');
    expect(filter.push('x</s>y')).toBe('x');
    expect(filter.isStopped).toBe(true);
    expect(filter.push('more') + filter.flush()).toBe('');
  });
});
