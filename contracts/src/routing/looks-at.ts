/**
 * What a rule set looks at beside the facts that every request has: which headers and body fields, and whether it reads prompts.
 */
import type { Condition, RoutingRules } from './rules.ts';
import { keySource } from './share.ts';

export interface LooksAt {
  /** Lower-case names. */
  readonly headers: ReadonlySet<string>;
  /** Dotted paths. */
  readonly body: ReadonlySet<string>;
  readonly prompt: boolean;
}

/** Conditions, and the keys by which shares are dealt. */
export function looksAt({ rules }: RoutingRules): LooksAt {
  const found = { headers: new Set<string>(), body: new Set<string>(), prompt: false };
  const deal = (by: string) => {
    const { header, path } = keySource(by);
    if (header !== undefined) found.headers.add(header);
    if (path !== undefined) found.body.add(path);
  };
  const walk = (condition: Condition) => {
    for (const name of Object.keys(condition.header ?? {})) found.headers.add(name);
    for (const path of Object.keys(condition.body ?? {})) found.body.add(path);
    if (condition.prompt !== undefined) found.prompt = true;
    if (condition.percent !== undefined) deal(condition.percent.by);
    for (const inner of [...(condition.all ?? []), ...(condition.any ?? [])]) walk(inner);
    if (condition.not !== undefined) walk(condition.not);
  };
  for (const rule of rules) {
    if (rule.when !== undefined) walk(rule.when);
    if ('split' in rule.then) deal(rule.then.by);
  }
  return found;
}
