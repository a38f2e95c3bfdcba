/**
 * What a pack run will write: each parameter's part of the delta file, known before any byte of it is computed.
 */
import { deltaStem, Problem, signWords, type TensorSpec } from '@signpost/contracts';
import { type Checkpoint, type CheckpointTensor, isLinearWeight, modelParams, type ParamSpec } from '@signpost/engine';

/** How large the scales of a plane are: one for each output row, or one for the whole matrix. */
export type ScaleKind = 'row' | 'matrix';

export interface PackParameters {
  readonly scale: ScaleKind;
  /** 1-bit planes a matrix; each further one is made of what those before leave. */
  readonly planes: number;
}

/** One parameter that the fine-tune changed. */
export type PlannedParam = {
  readonly spec: ParamSpec;
  readonly stem: string;
  readonly base: CheckpointTensor;
  readonly tuned: CheckpointTensor;
} & ({ readonly kind: '1bit'; readonly out: number; readonly inDim: number } | { readonly kind: 'exact' });

/**
 * Compares the checkpoints parameter by parameter, in execution order: linear layers become planes, whatever else changed an exact
 * difference, and what didn't change is left out.
 *
 * @throws Problem naming the first tensor that is missing, of another shape, or unknown to the base.
 */
export function planPack(base: Checkpoint, tuned: Checkpoint): PlannedParam[] {
  checkSameModel(base, tuned);
  const planned: PlannedParam[] = [];
  for (const spec of modelParams(base.config).specs) {
    const [before, after] = [tensorOf(base, spec), tensorOf(tuned, spec)];
    if (before.info.dtype === after.info.dtype && Buffer.compare(before.data, after.data) === 0) continue;
    const [out, inDim] = spec.shape;
    const common = { spec, stem: deltaStem(spec.name), base: before, tuned: after };
    if (isLinearWeight(spec.name) && inDim !== undefined) planned.push({ ...common, kind: '1bit', out, inDim });
    else planned.push({ ...common, kind: 'exact' });
  }
  return planned;
}

/** The tensors of one planned parameter, in the order they stand in the file. */
export function tensorsOf(param: PlannedParam, { scale, planes }: PackParameters): TensorSpec[] {
  if (param.kind === 'exact') return [{ name: `${param.stem}.delta`, dtype: 'BF16', shape: param.spec.shape }];
  return Array.from({ length: planes }, (_, p): TensorSpec[] => [
    { name: `${param.stem}.sign.${p}`, dtype: 'U32', shape: [param.out, signWords(param.inDim)] },
    { name: `${param.stem}.row_scale.${p}`, dtype: 'F32', shape: [scale === 'row' ? param.out : 1] },
  ]).flat();
}

function tensorOf(checkpoint: Checkpoint, spec: ParamSpec): CheckpointTensor {
  checkpoint.param(spec);
  const tensor = checkpoint.tensors.get(spec.name);
  if (tensor === undefined) throw new Problem(`${checkpoint.dir}: tensor ${spec.name} is missing`);
  return tensor;
}

function checkSameModel(base: Checkpoint, tuned: Checkpoint): void {
  const differing = (Object.keys(base.config) as (keyof Checkpoint['config'])[]).filter(
    // An expert may end its turns with another token; that is the tokenizer's matter, not the weights'.
    (key) => key !== 'eosIds' && JSON.stringify(base.config[key]) !== JSON.stringify(tuned.config[key]),
  );
  const [first] = differing;
  if (first !== undefined) {
    throw new Problem(
      `${tuned.dir} is no fine-tune of ${base.dir}: config ${first} is ${JSON.stringify(tuned.config[first])}, the base's is ${JSON.stringify(base.config[first])}`,
    );
  }
  const known = new Set(modelParams(base.config).specs.map(({ name }) => name));
  for (const name of tuned.tensors.keys()) {
    // Some trainers write the tied head, or rotary buffers, which hold nothing of their own.
    const derived = name.endsWith('rotary_emb.inv_freq') || (name === 'lm_head.weight' && base.config.tiedHead);
    if (!known.has(name) && !derived)
      throw new Problem(`${tuned.dir}: tensor ${name} has no counterpart in ${base.dir}`);
  }
}
