/**
 * A pack recipe: one base, the fine-tunes to pack against it, and how. Follows mergekit's conventions where they fit. Every key is used or refused.
 */
import { dirname, relative } from 'node:path';
import { expertNameSchema, Problem, parseWith } from '@signpost/contracts';
import { z } from 'zod';
import { readYaml } from '../recipe/read-yaml.ts';
import { checkKeys, didYouMean } from '../recipe/suggest.ts';
import { HUB_SCHEME, locateIn, partsOf } from '../source/location.ts';
import type { PlaneBudget } from './budget.ts';
import { SCALE_KINDS, type ScaleKind } from './plan.ts';
import { DEFAULT_POLICY, POLICIES, type PolicyRule, TREATMENTS } from './policy.ts';

/** Storage of exact differences, by mergekit's kind of name. */
export const EXACT_DTYPES = { bfloat16: 'BF16', int8: 'I8' } as const;
const DEFAULT_CALIBRATION_TOKENS = 16_384;

const ruleSchema = z.strictObject({ match: z.string().min(1), as: z.enum(TREATMENTS) });
const fields = {
  scale: z.enum(SCALE_KINDS).optional(),
  policy: z.union([z.string(), z.array(ruleSchema).min(1)]).optional(),
  planes: z.number().int().min(1).optional(),
  bits: z.number().min(1).optional(),
  max_error: z.number().gt(0).lt(1).optional(),
  exact_dtype: z.enum(['bfloat16', 'int8']).optional(),
  calibrate: z.string().min(1).optional(),
  calibration_tokens: z.number().int().positive().optional(),
};
const parametersSchema = z.object(fields).default({});
export type PackParameters = z.output<typeof parametersSchema>;

const modelSchema = z.object({ model: z.string().min(1), name: expertNameSchema, parameters: parametersSchema });
const recipeSchema = z.object({
  base_model: z.string().min(1),
  models: z.array(modelSchema).min(1),
  parameters: parametersSchema,
});

/** One fine-tune to pack, with everything decided. */
export interface PackTask {
  readonly base: string;
  readonly model: string;
  readonly name: string;
  readonly scale: ScaleKind;
  /** A policy's name, or its rules. */
  readonly policy: string | readonly PolicyRule[];
  readonly planes: PlaneBudget;
  readonly exact: keyof typeof EXACT_DTYPES;
  readonly calibration: { readonly prompts: string; readonly tokens: number } | undefined;
}

/** Reads a recipe file; paths in it are relative to its folder. @throws Problem naming what is missing, wrong or unknown. */
export async function readPackRecipe(path: string): Promise<PackTask[]> {
  return parsePackRecipe(await readYaml(path), path);
}

export function parsePackRecipe(value: unknown, where: string): PackTask[] {
  refuseUnknown(value, where);
  const recipe = parseWith(recipeSchema, value, where);
  const locate = (location: string) => locateIn(dirname(where), location);
  const names = recipe.models.map(({ name }) => name);
  const twice = names.find((name, index) => names.indexOf(name) !== index);
  if (twice !== undefined) throw new Problem(`${where}: two models are named "${twice}"`);
  return recipe.models.map(({ model, name, parameters }, index) => {
    const at = `${where}: models[${index}]`;
    const merged = { ...recipe.parameters, ...withoutShared(parameters) };
    const task = packTask({ base: locate(recipe.base_model), model: locate(model), name }, merged, at);
    const { calibration } = task;
    return calibration === undefined
      ? task
      : { ...task, calibration: { ...calibration, prompts: locate(calibration.prompts) } };
  });

  /** A model's own budget takes the place of the recipe's, whichever way either is put. */
  function withoutShared(own: PackParameters): PackParameters {
    const isBudget = own.planes !== undefined || own.bits !== undefined || own.max_error !== undefined;
    return isBudget ? { planes: undefined, bits: undefined, max_error: undefined, ...own } : own;
  }
}

/** @throws Problem when parameters contradict each other, or a policy isn't known. */
export function packTask(
  of: Pick<PackTask, 'base' | 'model' | 'name'>,
  parameters: PackParameters,
  where: string,
): PackTask {
  const { planes, bits, max_error: maxError, policy = DEFAULT_POLICY, calibrate } = parameters;
  const budgets: PlaneBudget[] = [
    ...(planes === undefined ? [] : [planes]),
    ...(bits === undefined ? [] : [{ bits }]),
    ...(maxError === undefined ? [] : [{ maxError }]),
  ];
  if (budgets.length > 1) throw new Problem(`${where}: planes, bits and max_error exclude each other; keep one`);
  if (typeof policy === 'string' && !Object.hasOwn(POLICIES, policy))
    throw new Problem(`${where}: unknown policy "${policy}"; ${didYouMean(policy, Object.keys(POLICIES))}`);
  if (parameters.calibration_tokens !== undefined && calibrate === undefined)
    throw new Problem(`${where}: calibration_tokens does nothing without calibrate`);
  return {
    ...of,
    scale: parameters.scale ?? 'row',
    policy,
    planes: budgets[0] ?? 1,
    exact: parameters.exact_dtype ?? 'bfloat16',
    calibration:
      calibrate === undefined
        ? undefined
        : { prompts: calibrate, tokens: parameters.calibration_tokens ?? DEFAULT_CALIBRATION_TOKENS },
  };
}

/** A task as the recipe of its own that would repeat it, with paths relative to `folder`, where it will stand. */
export function resolvedRecipe(task: PackTask, folder: string): object {
  const { base, model, name, scale, policy, planes, exact, calibration } = task;
  const from = (location: string) =>
    partsOf(location)
      .map((path) => (path.startsWith(HUB_SCHEME) ? path : relative(folder, path)))
      .join('+');
  return {
    base_model: from(base),
    models: [{ model: from(model), name }],
    parameters: {
      scale,
      policy,
      ...(typeof planes === 'number' ? { planes } : 'bits' in planes ? planes : { max_error: planes.maxError }),
      exact_dtype: exact,
      ...(calibration === undefined
        ? {}
        : { calibrate: from(calibration.prompts), calibration_tokens: calibration.tokens }),
    },
  };
}

/** Before anything else: a misspelt key also leaves a required one missing, and the slip is the better message. */
function refuseUnknown(value: unknown, where: string): void {
  const recipe = Object(value) as { readonly parameters?: unknown; readonly models?: unknown };
  checkKeys(recipe, Object.keys(recipeSchema.shape), where);
  const known = Object.keys(fields);
  checkKeys(Object(recipe.parameters), known, `${where}: parameters`);
  if (!Array.isArray(recipe.models)) return;
  for (const [index, entry] of recipe.models.entries()) {
    const model = Object(entry) as { readonly parameters?: unknown };
    checkKeys(model, Object.keys(modelSchema.shape), `${where}: models[${index}]`);
    checkKeys(Object(model.parameters), known, `${where}: models[${index}].parameters`);
  }
}
