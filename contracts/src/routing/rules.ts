/**
 * Routing rules (`routing.yaml`): ordered `when → then`, the first rule whose condition holds decides.
 */
import { z } from 'zod';
import { parseModelName } from '../model-name.ts';
import { parseWith } from '../problem.ts';
import { patternSchema } from './pattern.ts';
import { shareKeySchema } from './share.ts';
import { softMixtureSchema } from './soft-mixture.ts';
import { type TimeWindow, timeWindowSchema } from './time-window.ts';

const names = z.union([
  z
    .string()
    .min(1)
    .transform((one) => [one]),
  z.array(z.string().min(1)).min(1),
]);

const range = z
  .strictObject({ min: z.number().optional(), max: z.number().optional() })
  .refine(({ min, max }) => min !== undefined || max !== undefined, 'needs min or max')
  .refine(({ min, max }) => min === undefined || max === undefined || min <= max, 'min is above max');

/** Fields of one condition hold together (AND); a list in a field is any of its values (OR). */
export interface Condition {
  readonly all?: readonly Condition[] | undefined;
  readonly any?: readonly Condition[] | undefined;
  readonly not?: Condition | undefined;
  /** Requested model, as the app wrote it. */
  readonly model?: readonly string[] | undefined;
  readonly tenant?: readonly string[] | undefined;
  readonly path?: readonly string[] | undefined;
  /** Header values by lower-case name; `true` asks only that the header is there. */
  readonly header?: Readonly<Record<string, readonly string[] | true>> | undefined;
  readonly continent?: readonly string[] | undefined;
  readonly country?: readonly string[] | undefined;
  readonly colo?: readonly string[] | undefined;
  /** RE2 pattern searched in the prompt's text. */
  readonly prompt?: { test(text: string): boolean; readonly source: string } | undefined;
  readonly promptChars?: { min?: number | undefined; max?: number | undefined } | undefined;
  readonly label?: readonly string[] | undefined;
  readonly confidence?: { min?: number | undefined; max?: number | undefined } | undefined;
  /** Fields of the request's body by dotted path: any of these values, within a range, or there at all. */
  readonly body?: Readonly<Record<string, BodyTest>> | undefined;
  readonly time?: TimeWindow | undefined;
  /** A share of the requests, dealt by key: always the same side for the same key. */
  readonly percent?: { readonly of: number; readonly by: string } | undefined;
}

export type BodyTest =
  | true
  | { readonly anyOf: readonly (string | number | boolean)[] }
  | { readonly min?: number | undefined; readonly max?: number | undefined };

const scalar = z.union([z.string(), z.number(), z.boolean()]);
const bodyTest: z.ZodType<BodyTest> = z.union([
  z.literal(true),
  scalar.transform((value) => ({ anyOf: [value] })),
  z
    .array(scalar)
    .min(1)
    .transform((anyOf) => ({ anyOf })),
  range,
]);
const percentage = z.number().gt(0).max(100);

const conditionSchema: z.ZodType<Condition> = z.lazy(() =>
  z
    .strictObject({
      all: z.array(conditionSchema).min(1).optional(),
      any: z.array(conditionSchema).min(1).optional(),
      not: conditionSchema.optional(),
      model: names.optional(),
      tenant: names.optional(),
      path: names.optional(),
      header: z
        .record(z.string().regex(/^[a-z0-9-]+$/, 'header names are lower-case'), z.union([z.literal(true), names]))
        .optional(),
      continent: names.optional(),
      country: names.optional(),
      colo: names.optional(),
      prompt: patternSchema.optional(),
      promptChars: range.optional(),
      label: names.optional(),
      confidence: range.optional(),
      body: z.record(z.string().regex(/^[^.]+(\.[^.]+)*$/, 'expected a dotted path'), bodyTest).optional(),
      time: timeWindowSchema.optional(),
      percent: z
        .union([
          percentage.transform((of) => ({ of, by: 'tenant' })),
          z.strictObject({ of: percentage, by: shareKeySchema.default('tenant') }),
        ])
        .optional(),
    })
    .refine(
      (condition) => Object.keys(condition).length > 0,
      'an empty condition; leave `when` out to match everything',
    ),
);

const modelSchema = z.string().superRefine((name, context) => {
  if (name === 'requested' || name === 'label') return;
  try {
    if (parseModelName(name).kind === 'auto')
      context.addIssue({
        code: 'custom',
        message: '"auto" is what rules resolve; name an expert, a mixture, base, requested, or label',
      });
  } catch (error) {
    context.addIssue({ code: 'custom', message: error instanceof Error ? error.message : String(error) });
  }
});

const fixedModelSchema = modelSchema.refine(
  (name) => name !== 'requested' && name !== 'label',
  'name an expert, a mixture or base',
);

const limitsSchema = z.strictObject({ maxTokens: z.number().int().positive() });
/** Goes before a chat's own system prompt. */
const systemPrefixSchema = z.string().min(1).max(16_384);

/** A week: an answer that is right for longer belongs into the app. */
const MAX_CACHE_SECONDS = 7 * 86_400;

export const cacheSchema = z.strictObject({
  /** How long an answer is given again. */
  seconds: z.number().int().positive().max(MAX_CACHE_SECONDS),
  /** Whether one tenant's answer may be given to another; each has its own when left out. */
  shared: z.boolean().default(false),
});
export type CacheRule = z.output<typeof cacheSchema>;

export const shadowSchema = z.strictObject({
  /** What is asked beside what answers; its answer is compared and thrown away. */
  model: fixedModelSchema,
  /** Share of the rule's requests, drawn anew for each. */
  percent: percentage.default(100),
  /** Regions that may be asked; all when left out. */
  regions: z.array(z.string().min(1)).min(1).optional(),
});
export type ShadowRule = z.output<typeof shadowSchema>;

/** What every action that answers may say beside its model. */
const beside = {
  /** Regions allowed; all when left out. */
  regions: z.array(z.string().min(1)).min(1).optional(),
  limits: limitsSchema.optional(),
  systemPrefix: systemPrefixSchema.optional(),
  /** Which requests get the same version of a channel that several share (a canary); those of a tenant when left out. */
  stickyBy: shareKeySchema.optional(),
  cache: cacheSchema.optional(),
  shadow: shadowSchema.optional(),
};

const actionSchema = z.union(
  [
    z.strictObject({
      /** `base`, an expert, a mixture, `requested` for what the app asked for, or `label` for the expert that the prompt's label stands for. */
      model: modelSchema,
      /** With `label`: what answers where nobody has told the prompt's label, or it stands for no expert. */
      otherwise: fixedModelSchema.optional(),
      ...beside,
    }),
    z.strictObject({
      /** One of several models, by weight, dealt by key. */
      split: z.array(z.strictObject({ model: modelSchema, weight: z.number().positive() })).min(2),
      by: shareKeySchema.default('tenant'),
      ...beside,
    }),
    z.strictObject({
      /** The experts of the prompt's likeliest labels, weighted by their probabilities. */
      mixture: softMixtureSchema,
      /** What answers where nobody has classified the prompt, or no label stands for an expert. */
      otherwise: fixedModelSchema,
      ...beside,
    }),
    z.strictObject({ refuse: z.string().min(1) }),
  ],
  {
    error:
      'expected { model, … }, { split, by?, … } or { mixture, otherwise, … }, with regions?, limits?, systemPrefix?, stickyBy?, cache? and shadow?; or { refuse }',
  },
);
export type Action = z.output<typeof actionSchema>;

const ruleSchema = z.strictObject({
  name: z
    .string()
    .regex(/^[a-zA-Z0-9._-]{1,64}$/, 'expected 1 to 64 letters, digits, ".", "_", "-" (it is sent as a header)'),
  when: conditionSchema.optional(),
  then: actionSchema,
});
export type Rule = z.output<typeof ruleSchema>;

const CHAT = '/v1/chat/completions';

export const routingRulesSchema = z
  .strictObject({ version: z.literal(1), rules: z.array(ruleSchema).min(1) })
  .superRefine(({ rules }, context) => {
    const seen = new Set<string>();
    rules.forEach((rule, i) => {
      if (seen.has(rule.name))
        context.addIssue({
          code: 'custom',
          path: ['rules', i, 'name'],
          message: `"${rule.name}" is taken by an earlier rule`,
        });
      seen.add(rule.name);
      const issue = otherwiseIssue(rule.then);
      if (issue !== undefined)
        context.addIssue({ code: 'custom', path: ['rules', i, 'then', 'otherwise'], message: issue });
      if (comparesWithItself(rule.then))
        context.addIssue({
          code: 'custom',
          path: ['rules', i, 'then', 'shadow', 'model'],
          message: 'is the model that answers; name another, another version of it, or other regions',
        });
      const { path } = rule.when ?? {};
      if (
        'systemPrefix' in rule.then &&
        rule.then.systemPrefix !== undefined &&
        !(path?.length === 1 && path[0] === CHAT)
      ) {
        context.addIssue({
          code: 'custom',
          path: ['rules', i, 'then', 'systemPrefix'],
          message: `is for chats only: give the rule \`path: ${CHAT}\``,
        });
      }
      if (rule.when === undefined && i < rules.length - 1) {
        context.addIssue({
          code: 'custom',
          path: ['rules', i],
          message: `"${rule.name}" matches everything, so the rules after it are never reached`,
        });
      }
    });
    if (rules.at(-1)?.when !== undefined) {
      context.addIssue({
        code: 'custom',
        path: ['rules', rules.length - 1],
        message: 'the last rule must match everything (no `when`), so that every request is decided',
      });
    }
  });

function otherwiseIssue(action: Action): string | undefined {
  if ('split' in action && action.split.some(({ model }) => model === 'label'))
    return '`label` is no model of a split; give each label a rule of its own';
  if (!('model' in action)) return undefined;
  if (action.model === 'label' && action.otherwise === undefined)
    return 'is missing: what answers where nobody has told the label, or it stands for no expert';
  return action.model !== 'label' && action.otherwise !== undefined
    ? 'goes with `model: label` or `mixture` alone: this model always answers'
    : undefined;
}

function comparesWithItself(action: Action): boolean {
  if (!('model' in action) || action.shadow === undefined) return false;
  return action.shadow.model === action.model && action.shadow.regions === undefined;
}

export type RoutingRules = z.output<typeof routingRulesSchema>;

/**
 * Checks parsed YAML or JSON as a rule set.
 *
 * @throws Problem naming the rule and field.
 */
export function parseRoutingRules(value: unknown, where: string): RoutingRules {
  return parseWith(routingRulesSchema as z.ZodType<RoutingRules>, value, where);
}
