/**
 * What a rule set says that can never matter, or may surprise.
 */
import { isDeepStrictEqual } from 'node:util';
import type { Condition, RoutingRules } from '@signpost/contracts';

export interface Finding {
  readonly rule: string;
  /** `error`: it can't be meant so. */
  readonly level: 'error' | 'note';
  /** After the rule's name. */
  readonly message: string;
}

export function lintRules({ rules }: RoutingRules): Finding[] {
  const findings: Finding[] = [];
  rules.forEach(({ name, when = {}, then }, i) => {
    const wider = rules.slice(0, i).find((earlier) => earlier.when !== undefined && isNarrower(when, earlier.when));
    if (wider !== undefined)
      findings.push({
        rule: name,
        level: 'error',
        message: `is never reached: whatever it matches "${wider.name}" matches before it`,
      });
    if (asksForLabel(when))
      findings.push({
        rule: name,
        level: 'note',
        message: 'asks for a label or confidence: it does not fire while the classifier is cold or unsure',
      });
    if ('otherwise' in then && then.otherwise !== undefined)
      findings.push({
        rule: name,
        level: 'note',
        message: `answers by label: by ${then.otherwise} while the classifier is cold${'mixture' in then ? '' : ' or unsure'}, and where the catalogue has no expert for it`,
      });
    if (when.not !== undefined && asksForLabel(when.not))
      findings.push({
        rule: name,
        level: 'note',
        message: 'negates a label, which is neither true nor false for a prompt that nobody has classified',
      });
  });
  return findings;
}

/** Whether all that `a` matches `b` matches, as far as their fields tell: `a` has each of `b`'s, alike. */
function isNarrower(a: Condition, b: Condition): boolean {
  return Object.entries(b).every(([field, value]) => {
    const own = a[field as keyof Condition];
    if (isDeepStrictEqual(plain(own), plain(value))) return true;
    // Of values any may hold: fewer of them are narrower.
    return Array.isArray(own) && Array.isArray(value) && field !== 'all' && field !== 'any'
      ? own.every((one) => value.includes(one))
      : false;
  });
}

/** A pattern by its source. */
function plain(value: unknown): unknown {
  return typeof value === 'object' && value !== null && 'source' in value ? { pattern: value.source } : value;
}

function asksForLabel({ label, confidence, all = [], any = [] }: Condition): boolean {
  if (label !== undefined || confidence !== undefined || all.some(asksForLabel)) return true;
  // One that holds without it is enough.
  return any.length > 0 && any.every(asksForLabel);
}
