/**
 * Requests with what should become of them: tests of a rule set.
 */
import { decide, Problem, parseWith, type RoutingFacts, type RoutingRules } from '@signpost/contracts';
import { parse } from 'yaml';
import { z } from 'zod';

const requestSchema = z.strictObject({
  model: z.string().default('auto'),
  prompt: z.string().default(''),
  path: z.enum(['/v1/chat/completions', '/v1/completions']).default('/v1/chat/completions'),
  tenant: z.string().nullable().default(null),
  header: z.record(z.string(), z.string()).default({}),
  continent: z.string().optional(),
  country: z.string().optional(),
  colo: z.string().optional(),
  body: z.record(z.string(), z.unknown()).default({}),
  /** When it comes; now when left out. */
  time: z.iso.datetime({ offset: true }).optional(),
  /** What the classifier says; left out, it is cold or unsure. */
  label: z.string().optional(),
  confidence: z.number().min(0).max(1).default(1),
});

const caseSchema = z.strictObject({
  name: z.string().optional(),
  request: requestSchema,
  expect: z
    .strictObject({ rule: z.string().optional(), model: z.string().optional(), refused: z.string().optional() })
    .refine((expected) => Object.keys(expected).length > 0, 'expects nothing: give rule, model or refused'),
});
export type Case = z.output<typeof caseSchema>;

export interface CaseResult {
  readonly name: string;
  readonly decision: { readonly rule: string; readonly outcome: string; readonly passed: string };
  /** None where it is as expected. */
  readonly differences: readonly string[];
}

/** @throws Problem naming the case and field. */
export function parseCases(text: string, where: string): Case[] {
  let value: unknown;
  try {
    value = parse(text);
  } catch (cause) {
    throw new Problem(`${where}: not YAML: ${cause instanceof Error ? cause.message : cause}`, { cause });
  }
  return parseWith(z.array(caseSchema).min(1), value, where);
}

export function runCases(rules: RoutingRules, cases: readonly Case[]): CaseResult[] {
  return cases.map(({ name, request, expect }) => {
    const { rule, action, model: decided, passed } = decide(rules, factsOf(request));
    const model = 'mixture' in action ? 'mixture' : decided;
    const refused = 'refuse' in action ? action.refuse : undefined;
    const found = { rule, model: model === 'requested' ? request.model : model, refused };
    const differences = (['rule', 'model', 'refused'] as const).flatMap((field) =>
      expect[field] === undefined || expect[field] === found[field]
        ? []
        : `expected ${field} ${expect[field]}, got ${found[field] ?? 'none'}`,
    );
    return {
      name: name ?? (request.prompt.slice(0, 60) || request.model),
      decision: {
        rule,
        outcome: refused === undefined ? (found.model ?? '') : `refused: ${refused}`,
        passed: passed
          .map(({ rule: before, result }) => (result === false ? before : `${before} (unknown)`))
          .join(', '),
      },
      differences,
    };
  });
}

function factsOf({ header, tenant, time, label, confidence, ...request }: Case['request']): RoutingFacts {
  return {
    continent: undefined,
    country: undefined,
    colo: undefined,
    ...request,
    tenant: tenant ?? undefined,
    headers: new Headers(header),
    body: { model: request.model, ...request.body },
    now: time === undefined ? Date.now() : Date.parse(time),
    classification: label === undefined ? undefined : { label, confidence },
  };
}
