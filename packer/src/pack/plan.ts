/**
 * What a pack run will write: each parameter's part of the delta file, known before any byte of it is computed.
 */
import { deltaStem, Problem, signWords, type TensorSpec } from '@signpost/contracts';
import { type Checkpoint, type CheckpointTensor, modelParams, type ParamSpec } from '@signpost/engine';
import { tensorRows } from '../source/floats.ts';
import { isSame } from './blocks.ts';
import { type PolicyRule, treatmentOf } from './policy.ts';

/**
 * How a plane is scaled: `matrix` by one number, mean |Δ| (BitDelta, arXiv 2402.10193); `matrix-norm` by one that keeps the norm ‖Δ‖ (1bit-Merging, arXiv
 * 2502.10743); `row` by mean |Δ| of each output row; `row-col` by a number for each row and one for each column.
 */
export const SCALE_KINDS = ['matrix', 'matrix-norm', 'row', 'row-col'] as const;
export type ScaleKind = (typeof SCALE_KINDS)[number];

/** Storage of exact differences. INT8 has one scale a row. */
export type ExactDtype = 'BF16' | 'I8';

/** What decides the shape of a delta file. */
export interface Layout {
  readonly scale: ScaleKind;
  readonly exact: ExactDtype;
  /** 1-bit planes of a matrix; each further one is made of what those before leave. */
  readonly planesOf: (stem: string) => number;
}

interface Planned {
  readonly spec: ParamSpec;
  readonly stem: string;
  readonly tuned: CheckpointTensor;
}

/** One parameter that the fine-tune changed. */
export type ChangedParam = Planned & { readonly base: CheckpointTensor } & (
    | { readonly kind: '1bit'; readonly out: number; readonly inDim: number }
    | { readonly kind: 'exact' }
  );
export type PlannedMatrix = ChangedParam & { readonly kind: '1bit' };
/** Rows that it added below a parameter's: `spec` and `tuned` are of those alone. */
export type PlannedRows = Planned & { readonly kind: 'added' };
export type PlannedParam = ChangedParam | PlannedRows;

/**
 * Compares two checkpoints of the same model parameter by parameter, in execution order, and leaves out what didn't change or is to be dropped. Added rows
 * always stay: a token without them is nothing.
 */
export function planPack(base: Checkpoint, tuned: Checkpoint, rules: readonly PolicyRule[]): PlannedParam[] {
  const treatment = treatmentOf(rules);
  const planned: PlannedParam[] = [];
  const tunedSpecs = modelParams(tuned.config).specs;
  for (const [index, spec] of modelParams(base.config).specs.entries()) {
    const tunedSpec = tunedSpecs[index] ?? spec;
    const [before, whole] = [tensorOf(base, spec), tensorOf(tuned, tunedSpec)];
    const stem = deltaStem(spec.name);
    const as = treatment(spec.name);
    const [out, inDim] = spec.shape;
    const after = tensorRows(whole, 0, out);
    if (as !== 'drop' && !isSame(before, after)) {
      const common = { spec, stem, base: before, tuned: after };
      if (as === '1bit' && inDim !== undefined) planned.push({ ...common, kind: '1bit', out, inDim });
      else planned.push({ ...common, kind: 'exact' });
    }
    const [rows] = tunedSpec.shape;
    if (rows > out && inDim !== undefined) {
      const shape = [rows - out, inDim] as const;
      planned.push({ spec: { name: spec.name, shape }, stem, tuned: tensorRows(whole, out, rows), kind: 'added' });
    }
  }
  return planned;
}

/** The tensors of one planned parameter, in the order they stand in the file. */
export function tensorsOf(param: PlannedParam, { scale, exact, planesOf }: Layout): TensorSpec[] {
  if (param.kind === 'added') return [{ name: `${param.stem}.added`, dtype: 'BF16', shape: param.spec.shape }];
  if (param.kind === 'exact') {
    const { shape } = param.spec;
    const delta: TensorSpec = { name: `${param.stem}.delta`, dtype: exact, shape };
    if (exact === 'BF16') return [delta];
    return [delta, { name: `${param.stem}.delta_scale`, dtype: 'F32', shape: [shape.length === 1 ? 1 : shape[0]] }];
  }
  const { stem, out, inDim } = param;
  const isPerRow = scale === 'row' || scale === 'row-col';
  return Array.from({ length: planesOf(stem) }, (_, p): TensorSpec[] => [
    { name: `${stem}.sign.${p}`, dtype: 'U32', shape: [out, signWords(inDim)] },
    { name: `${stem}.row_scale.${p}`, dtype: 'F32', shape: [isPerRow ? out : 1] },
    ...(scale === 'row-col' ? [{ name: `${stem}.col_scale.${p}`, dtype: 'F32', shape: [inDim] } as const] : []),
  ]).flat();
}

function tensorOf(checkpoint: Checkpoint, spec: ParamSpec): CheckpointTensor {
  checkpoint.param(spec);
  const tensor = checkpoint.tensors.get(spec.name);
  if (tensor === undefined) throw new Problem(`${checkpoint.dir}: tensor ${spec.name} is missing`);
  return tensor;
}
