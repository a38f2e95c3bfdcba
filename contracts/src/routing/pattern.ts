/**
 * Prompt patterns: RE2 syntax, matched in time linear in the text, so that no rule can stall an isolate.
 */
import { RE2JS } from 're2js';
import { z } from 'zod';

/** How much of a text is searched, in UTF-16 code units: linear or not, 4 MB of prompt would take half a second a pattern. */
export const PATTERN_REACH_CHARS = 32_768;

export interface Pattern {
  readonly source: string;
  /** Whether the pattern occurs anywhere in `text`, of one beyond `PATTERN_REACH_CHARS` in its beginning and its end, half of that each. */
  test(text: string): boolean;
  /** What the first capture group holds at the pattern's first match there, or the whole match where the pattern has no group. */
  capture(text: string): string | undefined;
}

/** @throws when `source` is not RE2 syntax (look-around and back-references are not). */
export function compilePattern(source: string): Pattern {
  const compiled = RE2JS.compile(source);
  let last = { text: '', result: compiled.test('') };
  return {
    source,
    test(text) {
      // Rules may ask again for the same prompt: what would another label have led to?
      if (text !== last.text) last = { text, result: compiled.test(withinReach(text)) };
      return last.result;
    },
    capture(text) {
      const match = compiled.matcher(withinReach(text));
      return match.find() ? (match.group(Math.min(1, match.groupCount())) ?? undefined) : undefined;
    },
  };
}

/** What is said of a long text stands before or after it. The break keeps what isn't there from joining them. */
function withinReach(text: string): string {
  if (text.length <= PATTERN_REACH_CHARS) return text;
  const half = PATTERN_REACH_CHARS / 2;
  return `${text.slice(0, half)}\n${text.slice(-half)}`;
}

/** A pattern's source, compiled. */
export const patternSchema = z
  .string()
  .min(1)
  .transform((source, context) => {
    try {
      return compilePattern(source);
    } catch (error) {
      context.addIssue({
        code: 'custom',
        message: `not a pattern in RE2 syntax: ${error instanceof Error ? error.message : error}`,
      });
      return z.NEVER;
    }
  });
