/**
 * Rules' names in their order, with how often each has decided. No I/O.
 */
import type { RuleHits } from '../api/types.ts';

export interface RuleRow extends RuleHits {
  /** Whether the rules still have it. */
  readonly isThere: boolean;
}

/** Those of the text first, in its order: of the rest only what has decided something is known. */
export function rulesWithHits(text: string, hits: readonly RuleHits[]): RuleRow[] {
  const counted = new Map(hits.map(({ rule, requests }) => [rule, requests]));
  const names = ruleNames(text);
  const gone = hits.filter(({ rule }) => !names.includes(rule));
  return [
    ...names.map((rule) => ({ rule, requests: counted.get(rule) ?? 0, isThere: true })),
    ...gone.map((hit) => ({ ...hit, isThere: false })),
  ];
}

/** As people write them: `- name: x`, `- { name: x, …`, or on a line of its own. */
export function ruleNames(text: string): string[] {
  const names = [
    ...text.matchAll(/^\s*(?:-\s*)?(?:\{\s*)?name:\s*(?:"(?<double>[^"]*)"|'(?<single>[^']*)'|(?<plain>[^\s,}#]+))/gm),
  ];
  return [...new Set(names.flatMap(({ groups }) => groups?.double ?? groups?.single ?? groups?.plain ?? []))];
}
