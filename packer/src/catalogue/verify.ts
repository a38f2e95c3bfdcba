/**
 * Verification: that a delta's bytes are the published ones, fit their base, and give the errors that their metadata states.
 */
import { isDeepStrictEqual } from 'node:util';
import {
  checkDeltaFits,
  type DeltaLayout,
  type Digest,
  deltaStem,
  type ExpertVersion,
  type ParamDeltaLayout,
  Problem,
  type TensorInfo,
} from '@signpost/contracts';
import {
  brainToFloat,
  type Checkpoint,
  type CheckpointTensor,
  floatToBrain,
  modelParams,
  widenRows,
} from '@signpost/engine';
import { type ByteSource, ChunkHasher, readAll, sha256Stream } from '@signpost/store';
import { rawMatrix } from '../pack/blocks.ts';
import { floatsOf } from '../pack/difference.ts';
import { decodeFloats, tensorRows } from '../source/floats.ts';
import { checkSameModel } from '../source/same-model.ts';
import { tokenizerChanges } from '../source/tokenizer.ts';
import { readDeltaLayout } from './delta-source.ts';

/** Stated errors have 8 decimals and come from float32 residuals; these are computed in double. */
const ERROR_TOLERANCE = 1e-5;
/** An exact difference is rounded to BF16's 8 bits: at most half a unit in the last place, for each element. */
const EXACT_TOLERANCE = 2 ** -8;
/** Rounded to 255 steps of a row: a hundredth for normally distributed differences, more where a few stand out. */
const INT8_TOLERANCE = 0.1;

export interface VerifyOptions {
  readonly base: Checkpoint;
  readonly tuned?: Checkpoint;
  /** What the bytes should be; left out, their digest is reported, but altered bytes can't be told. */
  readonly digest?: Digest;
  /** The hashes of its chunks that the catalogue has, by which regions check what they read. */
  readonly chunks?: ExpertVersion['chunks'];
  /** Called with the bytes read so far. */
  readonly onProgress?: (readBytes: number, totalBytes: number) => void;
  readonly signal?: AbortSignal;
}

export interface Verified {
  readonly where: string;
  readonly bytes: number;
  readonly digest: Digest;
  readonly isDigestExpected: boolean;
  readonly base: Digest;
  readonly params: number;
  /** Relative errors recomputed, by matrix; undefined without the fine-tune. */
  readonly errors: Readonly<Record<string, number>> | undefined;
}

/**
 * Checks digest, header, base, shapes and, with the fine-tune, each matrix's relative error ‖Δ − Δ̂‖ / ‖Δ‖.
 *
 * @throws Problem naming the first thing that doesn't match, what it is and what it should be.
 */
export async function verify(source: ByteSource, options: VerifyOptions): Promise<Verified> {
  const { base, tuned, digest: expected, chunks, onProgress = () => undefined, signal } = options;
  const { where, bytes } = source;
  const total = tuned === undefined ? bytes : 2 * bytes;
  const content = readAll(source, (read) => onProgress(read, total), signal);
  const hasher = chunks && new ChunkHasher(chunks.bytes);
  const digest = await sha256Stream(hasher?.through(content) ?? content);
  if (expected !== undefined && digest !== expected)
    throw new Problem(`${where} has digest ${digest}, expected ${expected}: altered or truncated; publish it again`);
  if (hasher?.digests() !== chunks?.sha256)
    throw new Problem(`${where}: the catalogue has other hashes of its chunks; no region takes it: publish it again`);
  const layout = await readDeltaLayout(source);
  const baseDigest = await base.digest();
  checkDeltaFits(layout, baseDigest, modelParams(base.config).specs, where);
  const verified = {
    where,
    bytes,
    digest,
    isDigestExpected: expected !== undefined,
    base: baseDigest,
    params: layout.params.length,
  };
  if (tuned === undefined) return { ...verified, errors: undefined };

  const tunedDigest = await tuned.digest();
  if (layout.metadata.source !== tunedDigest)
    throw new Problem(
      `${where} was packed from fine-tune ${layout.metadata.source}, ${tuned.dir} is ${tunedDigest}; verify it against its own`,
    );
  await checkSameModel(base, tuned);
  if (!isDeepStrictEqual(layout.metadata.tokenizer, await tokenizerChanges(base, tuned)))
    throw new Problem(
      `${where}: its metadata states tokenizer changes that are not those of ${tuned.dir}; pack it again`,
    );
  const errors = await checkErrors(source, layout, base, tuned, (read) => {
    signal?.throwIfAborted();
    onProgress(bytes + read, total);
  });
  return { ...verified, errors };
}

async function checkErrors(
  source: ByteSource,
  { metadata, params }: DeltaLayout,
  base: Checkpoint,
  tuned: Checkpoint,
  onRead: (bytes: number) => void,
): Promise<Record<string, number>> {
  const errors: Record<string, number> = {};
  const names = new Map(modelParams(base.config).specs.map(({ name }) => [deltaStem(name), name]));
  for (const stem of Object.keys(metadata.errors)) {
    if (!params.some((param) => param.stem === stem))
      throw new Problem(`${source.where}: the metadata states an error of ${stem}, which is not in the file`);
  }
  for (const param of params) {
    const name = names.get(param.stem) ?? '';
    const [before, whole] = [tensorOf(base, name), tensorOf(tuned, name)];
    const rows = before.info.shape[0] ?? 0;
    if (param.added !== undefined)
      await checkAdded(source, param.added, tensorRows(whole, rows, rows + (param.added.shape[0] ?? 0)));
    if (param.planes.length === 0 && param.exact === undefined) continue;
    const error = await relativeError(source, param, before, tensorRows(whole, 0, rows));
    const { [param.stem]: stated } = metadata.errors;
    if (param.planes.length === 0) {
      const tolerance = param.exactScale === undefined ? EXACT_TOLERANCE : INT8_TOLERANCE;
      if (!(error <= tolerance))
        throw new Problem(
          `${source.where}: ${param.stem} is kept exact, but its relative error is ${error}, above ${tolerance} (rounding)`,
        );
    } else {
      if (stated === undefined) throw new Problem(`${source.where}: the metadata states no error of ${param.stem}`);
      if (!(Math.abs(error - stated) <= ERROR_TOLERANCE))
        throw new Problem(
          `${source.where}: the relative error of ${param.stem} is ${error.toFixed(8)}, its metadata states ${stated} (tolerance ${ERROR_TOLERANCE})`,
        );
      errors[param.stem] = error;
    }
    const last = param.exact ?? param.planes.at(-1)?.sign;
    onRead(last === undefined ? 0 : last.offset + last.bytes);
  }
  return errors;
}

/** @throws Problem when added rows are not the fine-tune's, rounded to BF16. */
async function checkAdded(source: ByteSource, added: TensorInfo, tuned: CheckpointTensor): Promise<void> {
  const found = new Uint16Array(await aligned(source, added));
  const wanted = Uint16Array.from(floatsOf(tuned), floatToBrain);
  if (!isDeepStrictEqual(found, wanted))
    throw new Problem(`${source.where}: tensor ${added.name} holds other rows than the fine-tune added`);
}

/** ‖Δ − Δ̂‖ / ‖Δ‖ over all elements, row by row in double precision; 0 where both are nothing. */
async function relativeError(
  source: ByteSource,
  param: ParamDeltaLayout,
  base: CheckpointTensor,
  tuned: CheckpointTensor,
): Promise<number> {
  const planes = [];
  for (const { sign, rowScale, colScale } of param.planes) {
    planes.push({
      signs: new Uint32Array(await aligned(source, sign)),
      rowScale: new Float32Array(await aligned(source, rowScale)),
      colScale: colScale === undefined ? undefined : new Float32Array(await aligned(source, colScale)),
    });
  }
  const exact = param.exact === undefined ? undefined : await exactOf(source, param.exact, param.exactScale);
  const [before, after] = [rawMatrix(base), rawMatrix(tuned)];
  const inDim = base.info.shape.at(-1) ?? 1;
  const rows = base.info.shape.slice(0, -1).reduce((product, dim) => product * dim, 1);
  const words = Math.ceil(inDim / 32);
  const rowOf = ({ dtype, data }: typeof before, row: number) => {
    const bytes = data.byteLength / rows;
    return decodeFloats(dtype, data.subarray(row * bytes, (row + 1) * bytes));
  };
  let [differenceSquared, residualSquared] = [0, 0];
  for (let row = 0; row < rows; row++) {
    const [from, to] = [rowOf(before, row), rowOf(after, row)];
    for (let col = 0; col < inDim; col++) {
      const difference = (to[col] ?? Number.NaN) - (from[col] ?? Number.NaN);
      let residual = difference - (exact === undefined ? 0 : brainToFloat(exact[row * inDim + col] ?? 0));
      for (const { signs, rowScale, colScale } of planes) {
        const bit = ((signs[row * words + (col >> 5)] ?? 0) >>> (col & 31)) & 1;
        const scale = (rowScale[rowScale.length === 1 ? 0 : row] ?? Number.NaN) * (colScale?.[col] ?? 1);
        residual -= bit === 1 ? scale : -scale;
      }
      differenceSquared += difference * difference;
      residualSquared += residual * residual;
    }
  }
  return residualSquared === 0 ? 0 : Math.sqrt(residualSquared / differenceSquared);
}

/** An exact difference as BF16. */
async function exactOf(source: ByteSource, exact: TensorInfo, scale: TensorInfo | undefined): Promise<Uint16Array> {
  const values = await aligned(source, exact);
  if (scale === undefined) return new Uint16Array(values);
  return widenRows(new Int8Array(values), new Float32Array(await aligned(source, scale)));
}

/** A tensor's bytes in a buffer of their own, as typed arrays need them. */
async function aligned(source: ByteSource, { offset, bytes }: TensorInfo): Promise<ArrayBuffer> {
  const data = await source.read(offset, offset + bytes);
  return data.slice().buffer as ArrayBuffer;
}

function tensorOf(checkpoint: Checkpoint, name: string): CheckpointTensor {
  const tensor = checkpoint.tensors.get(name);
  if (tensor === undefined) throw new Problem(`${checkpoint.dir}: tensor ${name} is missing`);
  return tensor;
}
