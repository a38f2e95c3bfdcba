import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { marksOf, PrefixMemory } from './prefixes.ts';

const said = (...turns: string[]) => turns.join('');
const LONG = 'What a long story this is. '.repeat(100);

function create() {
  const clock = { now: 1_000_000 };
  const memory = new PrefixMemory(() => clock.now);
  return {
    clock,
    memory,
    cached: (owner: string, text: string) => Object.fromEntries(memory.cachedChars(marksOf(owner, text)) ?? []),
  };
}

describe('the memory of prefixes', () => {
  it('knows who answered what a conversation begins with, as far as it is the same', () => {
    const { memory, cached } = create();
    memory.served(marksOf('acme math', LONG), 'eu');
    expect(cached('acme math', said(LONG, 'And then?'))).toEqual({ eu: 2_048 });
    expect(cached('acme math', LONG.slice(0, 1_500))).toEqual({ eu: 1_024 });
    memory.served(marksOf('acme math', said(LONG, 'And then? ', LONG)), 'us');
    expect(cached('acme math', said(LONG, 'And then? ', LONG, 'Well?'))).toEqual({ eu: 2_048, us: 5_120 });
  });

  it('keeps models and tenants apart, and knows nothing of what begins otherwise or is short', () => {
    const { memory, cached } = create();
    memory.served(marksOf('acme math', LONG), 'eu');
    expect(cached('acme code', LONG)).toEqual({});
    expect(cached('other math', LONG)).toEqual({});
    expect(cached('acme math', `x${LONG}`)).toEqual({});
    expect(marksOf('acme math', 'x'.repeat(1_023))).toEqual([]);
  });

  it('forgets what regions have evicted by now', () => {
    const { clock, memory, cached } = create();
    memory.served(marksOf('a', LONG), 'eu');
    clock.now += 9 * 60_000;
    memory.served(marksOf('a', LONG), 'us');
    clock.now += 2 * 60_000;
    expect(cached('a', LONG)).toEqual({ us: 2_048 });
  });

  it('is bounded: the least recently used goes first', () => {
    const { memory, cached } = create();
    memory.served(marksOf('first', LONG), 'eu');
    memory.served(marksOf('second', LONG), 'eu');
    for (let i = 0; i < 400; i++) {
      memory.served(marksOf(`${i}`, 'x'.repeat(70_000)), 'eu');
      memory.served(marksOf('first', LONG), 'eu');
    }
    expect(cached('first', LONG)).toEqual({ eu: 2_048 });
    expect(cached('second', LONG)).toEqual({});
  });

  it('never takes two beginnings for one', () => {
    const text = fc.string({ minLength: 1_024, maxLength: 3_000 });
    fc.assert(
      fc.property(text, text, (a, b) => {
        const same = [1_024, 2_048].filter((end) => a.length >= end && a.slice(0, end) === b.slice(0, end)).length;
        const [first, second] = [marksOf('o', a), marksOf('o', b)];
        expect(first.filter((mark) => second.includes(mark))).toHaveLength(same);
      }),
    );
  });
});
