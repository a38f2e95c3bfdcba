/**
 * A merge recipe: mergekit's YAML, as far as its methods are offered here. Every key is used or refused.
 */
import { dirname } from 'node:path';
import { Problem, parseWith } from '@signpost/contracts';
import type { ParamDtype } from '@signpost/engine';
import { z } from 'zod';
import { readYaml } from '../recipe/read-yaml.ts';
import { checkKeys, didYouMean } from '../recipe/suggest.ts';
import { locateIn } from '../source/location.ts';
import { DELTA_SUFFIX } from './input.ts';
import { type Setting, settingFor, settingSchema } from './setting.ts';

const METHODS = ['linear', 'task_arithmetic', 'ties', 'dare_linear', 'dare_ties', '1bit_merging'] as const;
export type MergeMethod = (typeof METHODS)[number];

/** What the methods can be told for one tensor. */
interface ModelParameters {
  readonly weight: number;
  /** Share of the differences that is kept. */
  readonly density: number;
  /** 1bit_merging: whether this is the expert that was chosen. */
  readonly selected: boolean;
}
export interface TensorParameters {
  readonly normalize: boolean;
  /** Scales what the method made of the differences. */
  readonly lambda: number;
  /** DARE: whether kept differences are divided by their share. */
  readonly rescale: boolean;
  readonly seed: number;
  /** In the recipe's order. */
  readonly models: readonly ModelParameters[];
}

type ParameterName = keyof ModelParameters | Exclude<keyof TensorParameters, 'models'>;
const MODEL_PARAMETERS: readonly ParameterName[] = ['weight', 'density', 'selected'];

/** Each method's parameters and their defaults; `undefined` where the recipe must say. mergekit's, where it has the method. */
const PARAMETERS: Readonly<Record<MergeMethod, Partial<Record<ParameterName, number | boolean | undefined>>>> = {
  linear: { weight: undefined, normalize: true },
  task_arithmetic: { weight: undefined, normalize: false, lambda: 1 },
  ties: { weight: undefined, density: 1, normalize: true, lambda: 1 },
  dare_linear: { weight: undefined, density: 1, rescale: true, seed: 0, normalize: false, lambda: 1 },
  dare_ties: { weight: undefined, density: 1, rescale: true, seed: 0, normalize: false, lambda: 1 },
  '1bit_merging': { weight: 1, density: 1, selected: false, normalize: true, lambda: undefined },
};
/** What a parameter is for the methods that don't have it. */
const NEUTRAL = { weight: 1, density: 1, selected: false, normalize: false, lambda: 1, rescale: false, seed: 0 };

export const DTYPES = { float32: 'F32', float16: 'F16', bfloat16: 'BF16' } as const;
export type DtypeName = keyof typeof DTYPES;
const dtypeSchema = z.enum(['float32', 'float16', 'bfloat16']).transform((name): ParamDtype => DTYPES[name]);

const parametersSchema = z.record(z.string(), settingSchema).default({});
const modelSchema = z.object({ model: z.string().min(1), parameters: parametersSchema });
const recipeSchema = z.object({
  merge_method: z.string(),
  base_model: z.string().min(1).optional(),
  models: z.array(modelSchema).min(1),
  parameters: parametersSchema,
  dtype: dtypeSchema.optional(),
  out_dtype: dtypeSchema.optional(),
  tokenizer_source: z
    .literal('base', {
      error: 'only "base" is supported; left out, it is that of the model that adds tokens, else of the first',
    })
    .optional(),
});

/** mergekit's keys that are known and not offered, with what to do instead. */
const NOT_OFFERED: Readonly<Record<string, string>> = {
  slices: 'layers of different models are not put together; list whole models',
  modules: 'list whole models',
  tokenizer: 'left out, it is that of the model that adds tokens, else of the first',
  chat_template: 'set it in tokenizer_config.json afterwards',
  int8_mask: 'it saves memory in mergekit and changes nothing here; remove it',
};

type Parameters = Readonly<Record<string, Setting>>;

export interface MergeRecipe {
  readonly where: string;
  readonly method: MergeMethod;
  readonly base: string | undefined;
  readonly models: readonly { readonly location: string; readonly parameters: Parameters }[];
  readonly parameters: Parameters;
  /** Of the checkpoint that is written; each tensor's own in the base when left out. */
  readonly dtype: ParamDtype | undefined;
  /** Whether the base's tokenizer stays as it is, and rows that models added are left out. */
  readonly tokenizerSource: 'base' | undefined;
}

/** Reads a recipe file. Paths in it are relative to its folder. @throws Problem naming what is missing, wrong or unknown. */
export async function readRecipe(path: string): Promise<MergeRecipe> {
  return parseRecipe(await readYaml(path), path);
}

export function parseRecipe(value: unknown, where: string): MergeRecipe {
  refuseUnknown(value, where);
  const raw = parseWith(recipeSchema, value, where);
  const method = METHODS.find((name) => name === raw.merge_method);
  if (method === undefined)
    throw new Problem(`${where}: unknown merge_method "${raw.merge_method}"; ${didYouMean(raw.merge_method, METHODS)}`);
  const known = Object.keys(PARAMETERS[method]);
  const locate = (location: string) => locateIn(dirname(where), location);
  const base = raw.base_model === undefined ? undefined : locate(raw.base_model);
  if (base === undefined && method !== 'linear') throw new Problem(`${where}: ${method} needs base_model`);
  const [first] = raw.models;
  if (base === undefined && first?.model.endsWith(DELTA_SUFFIX) === true)
    throw new Problem(
      `${where}: models[0] is ${first.model}, a delta, which holds no whole model; name its base as base_model`,
    );
  checkKeys(raw.parameters, known, `${where}: parameters of ${method}`);
  const models = raw.models.map((entry, index) => {
    const at = `${where}: models[${index}]`;
    checkKeys(entry.parameters, known.filter(isModelParameter), `${at}: a model's parameters of ${method}`);
    return { location: locate(entry.model), parameters: entry.parameters };
  });
  if (raw.out_dtype !== undefined && raw.dtype !== undefined && raw.dtype !== 'F32')
    throw new Problem(
      `${where}: merging computes in float32, so dtype must be float32 beside an out_dtype, or be left out`,
    );
  return {
    where,
    method,
    base,
    models: method === 'linear' ? models : withoutBase(models, base, where),
    parameters: raw.parameters,
    dtype: raw.out_dtype ?? raw.dtype,
    tokenizerSource: raw.tokenizer_source,
  };
}

/** mergekit's recipes may list the base among the models, where it has no part of its own: it differs from itself in nothing. */
function withoutBase(models: MergeRecipe['models'], base: string | undefined, where: string): MergeRecipe['models'] {
  const listed = models.find(({ location }) => location === base);
  if (listed !== undefined && Object.keys(listed.parameters).length > 0)
    throw new Problem(`${where}: the base ${base} takes no parameters as a model; remove them`);
  const others = models.filter((model) => model !== listed);
  if (others.length === 0) throw new Problem(`${where}: models lists only the base, there is nothing to merge`);
  return others;
}

/** Before anything else: a misspelt key also leaves a required one missing, and the slip is the better message. */
function refuseUnknown(value: unknown, where: string): void {
  const recipe = Object(value) as { readonly parameters?: unknown; readonly models?: unknown };
  const keys = [...Object.keys(recipe), ...Object.keys(Object(recipe.parameters))];
  const key = keys.find((name) => Object.hasOwn(NOT_OFFERED, name));
  if (key !== undefined) throw new Problem(`${where}: ${key} is not supported: ${NOT_OFFERED[key]}`);
  checkKeys(recipe, Object.keys(recipeSchema.shape), where);
  if (!Array.isArray(recipe.models)) return;
  for (const [index, entry] of recipe.models.entries())
    checkKeys(Object(entry), Object.keys(modelSchema.shape), `${where}: models[${index}]`);
}

function isModelParameter(name: string): boolean {
  return MODEL_PARAMETERS.some((parameter) => parameter === name);
}

/**
 * What the recipe says for one tensor. A model's own settings come before those of the recipe, and these before the method's defaults.
 *
 * @throws Problem when a parameter without a default is not set for it, or isn't of its kind.
 */
export function parametersFor(
  recipe: Pick<MergeRecipe, 'where' | 'method' | 'models' | 'parameters'>,
  tensor: string,
  depth: number,
): TensorParameters {
  const defaults = PARAMETERS[recipe.method];
  const resolve = <K extends ParameterName>(name: K, scopes: readonly Parameters[], of: string) => {
    const settings = scopes.flatMap((scope) => (Object.hasOwn(scope, name) ? [scope[name]] : []));
    const found = settings
      .map((setting) => (setting === undefined ? undefined : settingFor(setting, tensor, depth)))
      .find((one) => one !== undefined);
    const result = found ?? (Object.hasOwn(defaults, name) ? defaults[name] : NEUTRAL[name]);
    if (result === undefined) throw new Problem(`${recipe.where}: ${of} needs "${name}" for tensor ${tensor}`);
    return result;
  };
  const number = (name: ParameterName, scopes: readonly Parameters[], of: string): number => {
    const result = resolve(name, scopes, of);
    if (typeof result !== 'number' || !Number.isFinite(result))
      throw new Problem(`${recipe.where}: "${name}" of ${of} is ${result} for tensor ${tensor}, expected a number`);
    return result;
  };
  const flag = (name: ParameterName, scopes: readonly Parameters[], of: string): boolean => {
    const result = resolve(name, scopes, of);
    if (typeof result !== 'boolean')
      throw new Problem(
        `${recipe.where}: "${name}" of ${of} is ${result} for tensor ${tensor}, expected true or false`,
      );
    return result;
  };
  const shared = [recipe.parameters];
  return {
    normalize: flag('normalize', shared, recipe.method),
    lambda: number('lambda', shared, recipe.method),
    rescale: flag('rescale', shared, recipe.method),
    seed: number('seed', shared, recipe.method),
    models: recipe.models.map(({ location, parameters }) => {
      const scopes = [parameters, recipe.parameters];
      const density = number('density', scopes, location);
      if (density < 0 || density > 1)
        throw new Problem(`${recipe.where}: density ${density} of ${location} is not between 0 and 1`);
      return {
        weight: number('weight', scopes, location),
        density,
        selected: flag('selected', scopes, location),
      };
    }),
  };
}
