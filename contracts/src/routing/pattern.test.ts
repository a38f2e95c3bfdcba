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

  it('looks at the beginning and the end of very long texts only', () => {
    const half = PATTERN_REACH_CHARS / 2;
    const [few, many] = [half - 6, half].map((count) => ' '.repeat(count));
    const long = ' '.repeat(PATTERN_REACH_CHARS);
    const finds = (source: string, text: string) => {
      const pattern = compilePattern(source);
      expect(pattern.capture(text) !== undefined).toBe(pattern.test(text));
      return pattern.test(text);
    };
    for (const seen of [`${few}needle${long}`, `${long}needle${few}`, `${many}needle${few}`])
      expect(finds('needle', seen)).toBe(true);
    expect(finds('needle', `${many}needle${long}`)).toBe(false);
    expect(finds('needle', `${long}needle${many}`)).toBe(false);
    // Where it is cut the text neither ends nor begins nor goes on.
    expect(finds('^needle', `${long}needle${few}`)).toBe(false);
    expect(finds('needle$', `${few}needle${long}`)).toBe(false);
    expect(finds('^ .*needle$', `${long}needle`)).toBe(false);
    expect(finds('a b', `${few}     a${long} b${few}    `)).toBe(false);
    expect(finds('(?s)^ .*needle$', `${long}needle`)).toBe(true);
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
