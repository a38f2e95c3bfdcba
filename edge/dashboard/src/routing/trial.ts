/**
 * What is asked of `POST /admin/route` for what was typed. No I/O.
 */
import type { Trial } from '../api/types.ts';

export interface TrialFields {
  /** One a line. */
  readonly prompts: string;
  readonly model: string;
  readonly tenant: string;
  readonly country: string;
  /** `x-team: core; x-plan: gold`. */
  readonly headers: string;
}

/** More would be many requests at once. */
const MAX_PROMPTS = 20;

export function promptsOf(text: string): string[] {
  const lines = text.split('\n').map((line) => line.trim());
  return [...new Set(lines.filter((line) => line !== ''))].slice(0, MAX_PROMPTS);
}

export function headersOf(text: string): Record<string, string> {
  const pairs = text.split(';').map((pair) => /^\s*(?<name>[\w-]+)\s*:\s*(?<value>.*?)\s*$/.exec(pair)?.groups);
  return Object.fromEntries(pairs.flatMap((pair) => (pair === undefined ? [] : [[pair.name, pair.value]])));
}

/** @param rules to be tried in place of those in force */
export function trialOf(
  { model, tenant, country, headers }: TrialFields,
  prompt: string,
  rules: string | undefined,
): Trial {
  return {
    request: { model: model.trim() || 'auto', messages: [{ role: 'user', content: prompt }] },
    ...(tenant.trim() === '' ? {} : { tenant: tenant.trim() }),
    ...(headers.trim() === '' ? {} : { headers: headersOf(headers) }),
    ...(country.trim() === '' ? {} : { place: { country: country.trim().toUpperCase() } }),
    ...(rules === undefined ? {} : { rules }),
  };
}
