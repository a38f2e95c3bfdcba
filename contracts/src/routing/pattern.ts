/**
 * Prompt patterns: RE2 syntax, matched in time linear in the text, so that no rule can stall an isolate.
 */
import { RE2JS } from 're2js';

export interface Pattern {
  readonly source: string;
  /** Whether the pattern occurs anywhere in `text`. */
  test(text: string): boolean;
}

/** @throws when `source` is not RE2 syntax (look-around and back-references are not). */
export function compilePattern(source: string): Pattern {
  const compiled = RE2JS.compile(source);
  return { source, test: (text) => compiled.matcher(text).find() };
}
