/**
 * A `routing.yaml` text as checked rules.
 */
import { Problem, parseRoutingRules, type RoutingRules } from '@signpost/contracts';
import { parse } from 'yaml';

/**
 * @param regions names that rules may use; any where left out.
 * @throws Problem naming the line, or the rule and field.
 */
export function parseRulesText(text: string, where: string, regions?: readonly string[]): RoutingRules {
  let value: unknown;
  try {
    value = parse(text);
  } catch (cause) {
    throw new Problem(`${where}: not YAML: ${cause instanceof Error ? cause.message : cause}`, { cause });
  }
  const rules = parseRoutingRules(value, where);
  if (regions === undefined) return rules;
  for (const { name, then } of rules.rules) {
    const named = 'refuse' in then ? [] : [...(then.regions ?? []), ...(then.shadow?.regions ?? [])];
    const unknown = named.find((region) => !regions.includes(region));
    if (unknown !== undefined)
      throw new Problem(
        `${where}: rule "${name}" names region "${unknown}", which is not configured (REGIONS has ${regions.join(', ')})`,
      );
  }
  return rules;
}
