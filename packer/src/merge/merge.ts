/**
 * Merging: several models of one base as a checkpoint whose tensors are computed when they are read, a block of rows at a time.
 */
import { leadingVocabulary, Problem, type TokenizerChanges } from '@signpost/contracts';
import { Checkpoint, type CheckpointTensor, modelParams, type ParamDtype, type ParamSpec } from '@signpost/engine';
import { ComputedTensor, type RowReader, rowShape } from '../source/floats.ts';
import { openSource, type SourceOptions } from '../source/open.ts';
import { addScaled, electAndMerge, type Term, weightedSum } from './combine.ts';
import { type MergeInput, openInput, paramRows } from './input.ts';
import { type MergeMethod, type MergeRecipe, parametersFor, type TensorParameters } from './recipe.ts';
import { layerDepth } from './setting.ts';
import { keepAtRandom, keepLargest, type Sparsify } from './sparsify.ts';

export interface Merged {
  readonly base: Checkpoint;
  /** Its tensors are F32; its folder, for what is not weights, is the base's. */
  readonly checkpoint: Checkpoint;
  /** How its tokenizer differs from the base's. */
  readonly tokenizer: TokenizerChanges | undefined;
}

/**
 * Opens a recipe's models and plans every tensor; nothing of them is read yet. The tokenizer is that of the model that adds tokens, else of the first;
 * rows that were added are no difference from anything, and are taken whole.
 *
 * @throws Problem when a model can't be opened or doesn't fit the base, two of them add tokens, or a parameter is missing for a tensor.
 */
export async function openMerge(recipe: MergeRecipe, options: SourceOptions = {}): Promise<Merged> {
  const [first] = recipe.models;
  const base = await openSource(recipe.base ?? first?.location ?? '', options);
  const inputs: MergeInput[] = [];
  for (const { location } of recipe.models) inputs.push(await openInput(location, base, options));
  const leading = recipe.tokenizerSource === 'base' ? undefined : leadingVocabulary(inputs);
  const vocabSize = base.config.vocabSize + (leading?.addedRows ?? 0);
  const mergedSpecs = modelParams({ ...base.config, vocabSize }).specs;
  const tensors = new Map<string, CheckpointTensor>();
  for (const [index, spec] of modelParams(base.config).specs.entries()) {
    const parameters = parametersFor(recipe, spec.name, layerDepth(spec.name, base.config.layers));
    if (recipe.method === '1bit_merging') checkSelected(parameters, spec, recipe.where);
    const rows =
      recipe.method === 'linear'
        ? linearRows(spec, inputs, parameters)
        : differenceRows(spec, recipe.method, paramRows(base, spec), inputs, parameters);
    const { shape } = mergedSpecs[index] ?? spec;
    const isLonger = leading !== undefined && shape[0] > spec.shape[0];
    const all = isLonger ? stacked(spec, rows, leading.added(spec)) : rows;
    tensors.set(spec.name, new ComputedTensor(spec.name, shape, all));
  }
  const { where: _, ...method } = recipe;
  const paths = [...base.origin.paths, ...inputs.flatMap((input) => input.paths)];
  const origin = { paths, method: JSON.stringify(method) };
  const checkpoint = new Checkpoint(base.dir, { ...base.config, vocabSize }, tensors, origin);
  return { base, checkpoint, tokenizer: leading?.changes };
}

/** A parameter's rows with others below. */
function stacked({ shape }: ParamSpec, above: RowReader, below: RowReader): RowReader {
  const [rows] = shape;
  return (begin, end) => {
    if (end <= rows) return above(begin, end);
    if (begin >= rows) return below(begin - rows, end - rows);
    const parts = [above(begin, rows), below(0, end - rows)];
    return Float32Array.from(parts.flatMap((part) => [...part]));
  };
}

/** The dtype each tensor has in a checkpoint: what a merge into it is written in unless the user chose one. */
export function ownDtype(base: Checkpoint): (spec: ParamSpec) => ParamDtype {
  const dtypes = new Map(modelParams(base.config).specs.map((spec) => [spec.name, base.param(spec).dtype]));
  return ({ name }) => dtypes.get(name) ?? 'F32';
}

/** One model's difference in one tensor, thinned out and weighted. */
interface Part {
  readonly rows: RowReader | undefined;
  readonly sparsify: Sparsify;
  readonly weight: number;
  readonly selected: boolean;
}

function linearRows(spec: ParamSpec, inputs: readonly MergeInput[], parameters: TensorParameters): RowReader {
  const { cols } = rowShape(spec.shape);
  const models = inputs.map((input, m) => ({ rows: input.values(spec), weight: parameters.models[m]?.weight ?? 0 }));
  return (begin, end) => {
    const terms = models.map(({ rows, weight }) => ({ values: rows(begin, end), weight }));
    return weightedSum(terms, (end - begin) * cols, parameters.normalize);
  };
}

/** The methods that merge differences and add the result to the base. */
type DifferenceMethod = Exclude<MergeMethod, 'linear'>;

function differenceRows(
  spec: ParamSpec,
  method: DifferenceMethod,
  base: RowReader,
  inputs: readonly MergeInput[],
  parameters: TensorParameters,
): RowReader {
  const { cols } = rowShape(spec.shape);
  let parts: readonly Part[] | undefined;
  return (begin, end) => {
    // The first read of a tensor finds what to keep of each model; further blocks go by it.
    parts ??= inputs.map((input, m) => partOf(spec, method, input, m, parameters));
    const length = (end - begin) * cols;
    const terms = parts.map(({ rows, sparsify, weight, selected }) => {
      const values = rows?.(begin, end) ?? new Float32Array(length);
      sparsify(values, begin * cols);
      return { values, weight, selected };
    });
    return addScaled(base(begin, end), combine(method, terms, length, parameters), 1);
  };
}

function partOf(
  spec: ParamSpec,
  method: DifferenceMethod,
  input: MergeInput,
  model: number,
  { rescale, seed, models }: TensorParameters,
): Part {
  const { weight, density, selected } = models[model] ?? { weight: 0, density: 1, selected: false };
  const difference = input.difference(spec);
  const part = { rows: difference?.rows, weight, selected, sparsify: () => {} };
  if (difference === undefined) return part;
  switch (method) {
    case 'task_arithmetic':
      return part;
    case 'ties':
      return { ...part, sparsify: keepLargest(difference.rows, spec.shape, density) };
    case 'dare_linear':
    case 'dare_ties':
      return { ...part, sparsify: keepAtRandom(density, rescale, `${seed}/${model}/${spec.name}`) };
    case '1bit_merging':
      // Every magnitude of a sign plane's row is the same: there is no smallest one to trim.
      if (selected || difference.oneBit) return part;
      return { ...part, sparsify: keepLargest(difference.rows, spec.shape, density) };
    default:
      throw method satisfies never;
  }
}

/** What the method adds to the base. */
function combine(
  method: DifferenceMethod,
  terms: readonly (Term & { readonly selected: boolean })[],
  length: number,
  { normalize, lambda }: TensorParameters,
): Float32Array {
  switch (method) {
    case 'task_arithmetic':
    case 'dare_linear':
      return scaled(weightedSum(terms, length, normalize), lambda);
    case 'ties':
    case 'dare_ties':
      return scaled(electAndMerge(terms, length, normalize), lambda);
    case '1bit_merging': {
      const [selected, others] = [terms.filter((term) => term.selected), terms.filter((term) => !term.selected)];
      return addScaled(weightedSum(selected, length, false), electAndMerge(others, length, normalize), lambda);
    }
    default:
      throw method satisfies never;
  }
}

function scaled(values: Float32Array, factor: number): Float32Array {
  return factor === 1 ? values : values.map((value) => value * Math.fround(factor));
}

function checkSelected({ models }: TensorParameters, spec: ParamSpec, where: string): void {
  const count = models.filter(({ selected }) => selected).length;
  if (count !== 1)
    throw new Problem(`${where}: 1bit_merging needs one model with "selected: true", tensor ${spec.name} has ${count}`);
}
