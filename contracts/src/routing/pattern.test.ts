import { describe, expect, it } from 'vitest';
import { compilePattern, PATTERN_REACH_CHARS } from './pattern.ts';

describe('compilePattern', () => {
  it('searches anywhere, with RE2 flags', () => {
    const pattern = compilePattern('(?i)\\bdef \\w+');
    expect(pattern.test('see:\n  DEF main')).toBe(true);
    expect(pattern.test('undefined behaviour')).toBe(false);
  });

  it('takes time linear in the text where a backtracking engine takes exponential', () => {
    const pattern = compilePattern('(a+)+$');
    const startedAt = performance.now();
    expect(pattern.test(`${'a'.repeat(20_000)}b`)).toBe(false);
    expect(performance.now() - startedAt).toBeLessThan(2_000);
  });

  it('looks at the beginning of very long texts only', () => {
    const pattern = compilePattern('needle');
    expect(pattern.test(`${' '.repeat(PATTERN_REACH_CHARS - 6)}needle`)).toBe(true);
    expect(pattern.test(`${' '.repeat(PATTERN_REACH_CHARS)}needle`)).toBe(false);
  });

  it.each([
    ['answer is (-?\\d+)( kg)?', 'The answer is -7 kg. The answer is 8.', '-7'],
    ['\\d+', 'a 12 b 3', '12'],
    ['x(y)?', 'x', undefined],
    ['answer', 'none', undefined],
  ])('%s captures from %j: %j', (source, text, captured) => {
    expect(compilePattern(source).capture(text)).toBe(captured);
  });

  it.each(['(?=x)', '(?<!x)y', '(a)\\1', '('])('refuses %s', (source) => {
    expect(() => compilePattern(source)).toThrow();
  });
});
