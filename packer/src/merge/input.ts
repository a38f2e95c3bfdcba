/**
 * What can be merged: checkpoints and adapters as differences from the base, packed deltas as they are.
 *
 * A packed delta is never added to the base and subtracted again: that would round its magnitudes apart, which are equal within a row.
 */
import { deltaStem, type ExpertVocabulary, Problem, signWords } from '@signpost/contracts';
import {
  type Checkpoint,
  type CheckpointTensor,
  type DeltaFile,
  modelParams,
  openMappedDelta,
  type ParamDelta,
  type ParamSpec,
  type SignPlane,
} from '@signpost/engine';
import { type RawMatrix, releaseMapped, subtract } from '@signpost/kernels';
import { rowsOf } from '../pack/blocks.ts';
import { floatsOfBrains, letGo, type RowReader, rowReader, rowShape } from '../source/floats.ts';
import { openSource, type SourceOptions } from '../source/open.ts';
import { checkSameModel } from '../source/same-model.ts';
import { tokenizerChanges } from '../source/tokenizer.ts';

/** What a model adds to one of the base's parameters. */
interface Difference {
  /** Gives arrays that the caller may change. */
  readonly rows: RowReader;
  /** Whether it is made of sign planes. */
  readonly oneBit: boolean;
}

/** Its name is the location it was opened at. */
export interface MergeInput extends ExpertVocabulary {
  /** Folders and files that it is read from. */
  readonly paths: readonly string[];
  /** The model's own values. */
  values(spec: ParamSpec): RowReader;
  /** `undefined` where the model has the base's values. */
  difference(spec: ParamSpec): Difference | undefined;
  /** Rows that it adds below the base's. */
  added(spec: ParamSpec): RowReader;
}

export const DELTA_SUFFIX = '.delta.safetensors';

/**
 * Opens a model to merge into `base`: a packed delta where the name ends in `.delta.safetensors`, else whatever `openSource` takes.
 *
 * @throws Problem when it can't be opened, or is not of this base.
 */
export async function openInput(location: string, base: Checkpoint, options: SourceOptions): Promise<MergeInput> {
  if (location.endsWith(DELTA_SUFFIX)) return packedInput(location, base);
  const tuned = await openSource(location, { ...options, base });
  await checkSameModel(base, tuned);
  return { name: location, changes: await tokenizerChanges(base, tuned), ...checkpointInput(tuned, base) };
}

/** Rows of a checkpoint's parameter. @throws Problem when it is missing or of another shape. */
export function paramRows(checkpoint: Checkpoint, spec: ParamSpec): RowReader {
  const { dtype } = checkpoint.param(spec);
  return rowReader(tensorOf(checkpoint, spec), dtype);
}

function tensorOf(checkpoint: Checkpoint, spec: ParamSpec): CheckpointTensor {
  checkpoint.param(spec);
  const tensor = checkpoint.tensors.get(spec.name);
  if (tensor === undefined) throw new Problem(`${checkpoint.dir}: tensor ${spec.name} is missing`);
  return tensor;
}

interface RawRows {
  readonly block: RawMatrix;
  letGo(): void;
}

/** The same as they are stored. */
function rawRows(checkpoint: Checkpoint, spec: ParamSpec): (begin: number, end: number) => RawRows {
  const tensor = tensorOf(checkpoint, spec);
  const rows = rowsOf(tensor, spec.shape[0]);
  return (begin, end) => {
    const block = rows(begin, end);
    return { block, letGo: () => letGo(tensor, block.data) };
  };
}

function checkpointInput(tuned: Checkpoint, base: Checkpoint): Omit<MergeInput, 'name' | 'changes'> {
  // Its own may have more rows.
  const specs = new Map(modelParams(tuned.config).specs.map((spec) => [spec.name, spec]));
  const values = (spec: ParamSpec) => paramRows(tuned, specs.get(spec.name) ?? spec);
  return {
    paths: tuned.origin.paths,
    addedRows: tuned.config.vocabSize - base.config.vocabSize,
    added: (spec) => {
      const [rows, whole] = [spec.shape[0], values(spec)];
      return (begin, end) => whole(rows + begin, rows + end);
    },
    values,
    difference(spec) {
      if (tuned.tensors.get(spec.name) === base.tensors.get(spec.name)) return undefined;
      const [before, after] = [rawRows(base, spec), rawRows(tuned, specs.get(spec.name) ?? spec)];
      const rows: RowReader = (begin, end) => {
        const [from, to] = [before(begin, end), after(begin, end)];
        const difference = subtract(from.block, to.block);
        from.letGo();
        to.letGo();
        return difference;
      };
      return { rows, oneBit: false };
    },
  };
}

async function packedInput(path: string, base: Checkpoint): Promise<MergeInput> {
  const file = openMappedDelta(path);
  file.checkFits(await base.digest(), modelParams(base.config).specs);
  const deltas = new Map([...file.params()].map(({ stem, delta }) => [stem, delta]));
  const difference = (spec: ParamSpec): Difference | undefined => {
    const delta = deltas.get(deltaStem(spec.name));
    if (delta === undefined) return undefined;
    const { cols } = rowShape(spec.shape);
    const rows: RowReader = (begin, end) => {
      const values = deltaRows(delta, cols, begin, end);
      letGoOfRows(delta, cols, begin, end, file);
      return values;
    };
    return { rows, oneBit: delta.planes.length > 0 };
  };
  return {
    name: path,
    paths: [path],
    changes: file.metadata.tokenizer,
    addedRows: file.addedRows,
    added(spec) {
      const rows = deltas.get(deltaStem(spec.name))?.added ?? new Uint16Array();
      const { cols } = rowShape(spec.shape);
      return (begin, end) => floatsOfBrains(rows.subarray(begin * cols, end * cols));
    },
    difference,
    values(spec) {
      const [before, change] = [paramRows(base, spec), difference(spec)];
      if (change === undefined) return before;
      return (begin, end) => {
        const [from, values] = [before(begin, end), change.rows(begin, end)];
        for (let i = 0; i < values.length; i++) values[i] = (from[i] ?? 0) + (values[i] ?? 0);
        return values;
      };
    },
  };
}

/** `Σ_p diag(r_p) · S_p · diag(c_p)` and the exact difference, of some rows. */
function deltaRows({ planes, exact }: ParamDelta, cols: number, begin: number, end: number): Float32Array {
  const values = new Float32Array((end - begin) * cols);
  if (exact !== undefined) values.set(floatsOfBrains(exact.subarray(begin * cols, end * cols)));
  for (const plane of planes)
    for (let row = begin; row < end; row++) {
      addPlaneRow(values.subarray((row - begin) * cols, (row - begin + 1) * cols), plane, row);
    }
  return values;
}

/** What of these rows stands in the mapped file; the rest was copied, and a copy would be lost. */
function letGoOfRows({ planes, exact }: ParamDelta, cols: number, begin: number, end: number, file: DeltaFile): void {
  const letGo = (values: Uint32Array | Uint16Array, rowLength: number) => {
    if (!file.isMapped(values)) return;
    const rows = values.subarray(begin * rowLength, end * rowLength);
    releaseMapped(new Uint8Array(rows.buffer, rows.byteOffset, rows.byteLength));
  };
  for (const { signs } of planes) letGo(signs, signWords(cols));
  if (exact !== undefined) letGo(exact, cols);
}

function addPlaneRow(
  values: Float32Array, // (cols)
  { signs, rowScale, colScale }: SignPlane,
  row: number,
): void {
  const scale = (rowScale.length === 1 ? rowScale[0] : rowScale[row]) ?? 0;
  const words = row * Math.ceil(values.length / 32);
  for (let col = 0; col < values.length; col++) {
    const bit = ((signs[words + (col >> 5)] ?? 0) >>> (col & 31)) & 1;
    const size = colScale === undefined ? scale : scale * (colScale[col] ?? 0);
    values[col] = (values[col] ?? 0) + (bit === 1 ? size : -size);
  }
}
