/**
 * Packing: the difference between a fine-tune and its base as a delta file.
 *
 * One streaming pass in execution order; two where planes are to be spent by a budget, the first of which only measures.
 */
import { createHash } from 'node:crypto';
import {
  DELTA_FORMAT,
  type Digest,
  encodeHeader,
  MAX_PLANES,
  Problem,
  type TokenizerChanges,
} from '@signpost/contracts';
import type { Checkpoint, ParamDelta } from '@signpost/engine';
import manifest from '../../package.json' with { type: 'json' };
import { CALIBRATION_VERSION, type CalibratedScale } from '../calibrate/fit.ts';
import { type Importance, importanceOf } from '../calibrate/importance.ts';
import { ErrorProbe } from '../calibrate/probe.ts';
import type { CalibrationSet } from '../calibrate/prompts.ts';
import { CalibrationWalk } from '../calibrate/statistics.ts';
import { checkSameModel } from '../source/same-model.ts';
import { tokenizerChanges } from '../source/tokenizer.ts';
import {
  allocatePlanes,
  type MeasuredMatrix,
  MOST_MEASURED_PLANES,
  type PlaneBudget,
  planesToMeasure,
} from './budget.ts';
import { brainOf, type Exact } from './difference.ts';
import { CalibratedSource, type PackedParam, type ParamSource, PlainSource } from './params.ts';
import { type ExactDtype, type Layout, type PlannedParam, planPack, type ScaleKind, tensorsOf } from './plan.ts';
import { DEFAULT_POLICY, POLICIES, type PolicyRule } from './policy.ts';
import { DeltaWriter, originState } from './writer.ts';

export interface PackOptions {
  /** Expert name, as written in the file. */
  readonly name: string;
  /** Path of the delta file. */
  readonly out: string;
  readonly scale?: ScaleKind;
  readonly exact?: ExactDtype;
  readonly planes?: PlaneBudget;
  readonly policy?: readonly PolicyRule[];
  /** Signs and scales are then fitted to the activations on these prompts; row and row-col scales only. */
  readonly calibration?: CalibrationSet;
  /** How the fine-tune's tokenizer differs from the base's; left out, its folder says. */
  readonly tokenizer?: TokenizerChanges | undefined;
  /** How much work a killed run may lose. */
  readonly journalIntervalMs?: number;
  /** Called after each parameter with the bytes read so far, of both checkpoints and all passes. */
  readonly onProgress?: (readBytes: number, totalBytes: number) => void;
  /** Stops the run; nothing is left behind. */
  readonly signal?: AbortSignal;
}

/** What became of one parameter. */
export interface PackedParamReport {
  readonly stem: string;
  readonly kind: PlannedParam['kind'];
  readonly bytes: number;
  /** Of a 1-bit matrix. */
  readonly planes?: number;
}

export interface PackReport {
  readonly out: string;
  readonly base: Digest;
  readonly source: Digest;
  readonly bytes: number;
  /** Bytes of the fine-tune's tensors. */
  readonly sourceBytes: number;
  /** ‖Δ − Δ̂‖ / ‖Δ‖ by matrix. */
  readonly errors: Readonly<Record<string, number>>;
  /** Sign bits a weight of the 1-bit matrices. */
  readonly bits: number;
  readonly params: readonly PackedParamReport[];
}

/** Deltas say which packer made them. */
export const PACKER_VERSION = manifest.version;

/** Relative errors are written with a fixed width, so that the header's size is known before they are. */
const ERROR_DECIMALS = 8;
const DIGEST_PLACEHOLDER = '0'.repeat(64) as Digest;

type Settings = Required<Pick<PackOptions, 'scale' | 'exact' | 'planes' | 'policy'>> &
  Omit<PackOptions, 'calibration'> & { readonly calibration?: WeightedCalibration };

type WeightedCalibration = CalibrationSet & Importance;

/**
 * Packs `tuned` against `base` into `options.out`.
 *
 * @throws Problem when the checkpoints don't belong together, nothing changed, a difference is not finite, or the options contradict each other.
 */
export async function pack(base: Checkpoint, tuned: Checkpoint, options: PackOptions): Promise<PackReport> {
  await checkSameModel(base, tuned);
  const { calibration, ...asked } = options;
  const plain: Settings = {
    tokenizer: await tokenizerChanges(base, tuned),
    scale: 'row',
    exact: 'BF16',
    planes: 1,
    policy: POLICIES[DEFAULT_POLICY] ?? [],
    ...asked,
  };
  checkSettings(plain, calibration);
  const planned = planPack(base, tuned, plain.policy);
  if (planned.length === 0) throw new Problem(`${tuned.dir} is the same as ${base.dir}: there is nothing to pack`);
  // Both read every byte; begun now, they go on beside the packing.
  const digests = Promise.all([base.digest(), tuned.digest()]);
  digests.catch(() => undefined);
  const weighted = calibration && { ...calibration, ...(await importanceOf(tuned, calibration.sequences)) };
  const settings: Settings = weighted === undefined ? plain : { ...plain, calibration: weighted };
  const passes = typeof settings.planes === 'number' ? 1 : 2;
  const progress = progressOf(planned, passes, settings);
  const planes = await planesByStem(base, tuned, planned, settings, progress);
  const layout: Layout = { ...settings, planesOf: (stem) => planes.get(stem) ?? 1 };
  return write(base, tuned, planned, layout, settings, digests, progress);
}

async function write(
  base: Checkpoint,
  tuned: Checkpoint,
  planned: readonly PlannedParam[],
  layout: Layout,
  settings: Settings,
  digests: Promise<[Digest, Digest]>,
  progress: Progress,
): Promise<PackReport> {
  const { out, name } = settings;
  const tensors = planned.flatMap((param) => tensorsOf(param, layout));
  const errors: Record<string, number> = {};
  for (const { kind, stem } of planned) if (kind === '1bit') errors[stem] = 0;
  const header = (base: Digest, source: Digest) => encodeHeader(tensors, metadata(settings, { base, source }, errors));
  const { byteLength: headerBytes } = header(DIGEST_PLACEHOLDER, DIGEST_PLACEHOLDER);
  const key = await resumeKey(base, tuned, settings, tensors);
  const writer = await DeltaWriter.open(out, key, headerBytes, settings.journalIntervalMs);
  const { source, close } = openSource(base, tuned, settings);
  try {
    for (const [index, param] of planned.entries()) {
      settings.signal?.throwIfAborted();
      const before = writer.written[index];
      if (before !== undefined) await source.skip(param, await readBack(writer, index, param, layout));
      else {
        const packed = await source.pack(param, layout.planesOf(param.stem));
        const error = packed.kind === '1bit' ? packed.error : undefined;
        await writer.append(param.stem, partsOf(packed), error);
      }
      const { error } = writer.written[index] ?? {};
      if (error !== undefined) errors[param.stem] = error;
      progress(param);
    }
    const [baseDigest, sourceDigest] = await digests;
    await writer.finish(header(baseDigest, sourceDigest));
    return {
      out,
      base: baseDigest,
      source: sourceDigest,
      bytes: writer.bytes,
      sourceBytes: [...tuned.tensors.values()].reduce((sum, { info }) => sum + info.bytes, 0),
      errors,
      bits: bitsOf(planned, layout),
      params: planned.map(({ stem, kind }, index) => ({
        stem,
        kind,
        bytes: writer.written[index]?.bytes ?? 0,
        ...(kind === '1bit' ? { planes: layout.planesOf(stem) } : {}),
      })),
    };
  } catch (error) {
    await writer.discard();
    throw error instanceof Error ? error : new Error(`packing ${name} failed`, { cause: error });
  } finally {
    close();
  }
}

/** Planes of each matrix: as many as were asked for, or as the budget buys. */
async function planesByStem(
  base: Checkpoint,
  tuned: Checkpoint,
  planned: readonly PlannedParam[],
  settings: Settings,
  progress: Progress,
): Promise<ReadonlyMap<string, number>> {
  const { planes: budget } = settings;
  if (typeof budget === 'number') {
    return new Map(planned.flatMap(({ stem, kind }) => (kind === '1bit' ? [[stem, budget] as const] : [])));
  }
  const count = planesToMeasure(budget);
  const { source, close } = openSource(base, tuned, settings, await probeOf(tuned, planned, settings, count));
  try {
    const measured: MeasuredMatrix[] = [];
    for (const param of planned) {
      settings.signal?.throwIfAborted();
      const squared = await source.measure(param, count);
      if (param.kind === '1bit') measured.push({ param, squared });
      progress(param);
    }
    return allocatePlanes(measured, budget);
  } finally {
    close();
  }
}

/** Where matrices compete for planes, and calibration says what their errors cost. */
async function probeOf(
  tuned: Checkpoint,
  planned: readonly PlannedParam[],
  { planes, calibration }: Settings,
  count: number,
): Promise<ErrorProbe | undefined> {
  if (calibration === undefined || typeof planes === 'number' || !('bits' in planes)) return undefined;
  const matrices = planned.filter(({ kind }) => kind === '1bit').length;
  return ErrorProbe.of(tuned, calibration.sequences, matrices * count);
}

function openSource(
  base: Checkpoint,
  tuned: Checkpoint,
  settings: Settings,
  probe?: ErrorProbe,
): { source: ParamSource; close(): void } {
  const { calibration, exact } = settings;
  if (calibration === undefined) return { source: new PlainSource(settings), close() {} };
  const walk = new CalibrationWalk(base, tuned, calibration);
  const scale = calibratedScale(settings.scale);
  return { source: new CalibratedSource(walk, exact, scale, probe), close: () => walk.close() };
}

/** @throws Problem for a scale that isn't fitted to activations. */
function calibratedScale(scale: ScaleKind): CalibratedScale {
  if (scale === 'row' || scale === 'row-col') return scale;
  throw new Problem(`calibration fits scales "row" and "row-col"; it can't be combined with scale "${scale}"`);
}

function checkSettings({ scale, planes }: Settings, calibration: CalibrationSet | undefined): void {
  if (calibration !== undefined) calibratedScale(scale);
  if (scale === 'matrix-norm' && planes !== 1)
    throw new Problem(
      'scale "matrix-norm" keeps the norm of the difference with one plane; further planes need another scale',
    );
  if (typeof planes === 'number') {
    if (!(Number.isInteger(planes) && planes >= 1 && planes <= MAX_PLANES))
      throw new Problem(`planes is ${planes}; expected a whole number from 1 to ${MAX_PLANES}`);
  } else if ('bits' in planes) {
    if (!(planes.bits >= 1 && planes.bits <= MOST_MEASURED_PLANES))
      throw new Problem(`bits is ${planes.bits}; expected 1 to ${MOST_MEASURED_PLANES}`);
  } else if (!(planes.maxError > 0 && planes.maxError < 1))
    throw new Problem(`the largest error allowed is ${planes.maxError}; expected a number between 0 and 1`);
}

/** Says how far the run is, after each parameter. */
type Progress = (param: PlannedParam) => void;

function progressOf(planned: readonly PlannedParam[], passes: number, { onProgress }: PackOptions): Progress {
  const readBytes = (param: PlannedParam) =>
    (param.kind === 'added' ? 0 : param.base.info.bytes) + param.tuned.info.bytes;
  const total = passes * planned.reduce((sum, param) => sum + readBytes(param), 0);
  let read = 0;
  return (param) => {
    read += readBytes(param);
    onProgress?.(read, total);
  };
}

function bitsOf(planned: readonly PlannedParam[], { planesOf }: Layout): number {
  const sums = { bits: 0, weights: 0 };
  for (const param of planned) {
    if (param.kind !== '1bit') continue;
    sums.weights += param.out * param.inDim;
    sums.bits += param.out * param.inDim * planesOf(param.stem);
  }
  return sums.weights === 0 ? 0 : sums.bits / sums.weights;
}

/** Everything that decides the bytes of the file. Undefined parts (a checkpoint from no file) are random: such a run is never resumed. */
async function resumeKey(
  base: Checkpoint,
  tuned: Checkpoint,
  { name, calibration, tokenizer }: Settings,
  tensors: readonly unknown[],
): Promise<string> {
  const states = [await originState(base.origin), await originState(tuned.origin)].map(
    (state) => state ?? Math.random(),
  );
  const calibrated = calibration && [CALIBRATION_VERSION, calibration.digest, calibration.sequences.length];
  const key = [PACKER_VERSION, name, calibrated, tokenizer, states, tensors];
  return createHash('sha256').update(JSON.stringify(key)).digest('hex');
}

function partsOf(packed: PackedParam): Uint8Array[] {
  if (packed.kind === 'added') return [bytesOf(packed.rows)];
  if (packed.kind === 'exact') {
    const { exact } = packed;
    return exact.dtype === 'BF16' ? [bytesOf(exact.values)] : [bytesOf(exact.values), bytesOf(exact.scale)];
  }
  return packed.planes
    .flatMap(({ signs, rowScale, colScale }) => [signs, rowScale, ...(colScale === undefined ? [] : [colScale])])
    .map(bytesOf);
}

/** A parameter of an earlier run, as it was written. */
async function readBack(writer: DeltaWriter, index: number, param: PlannedParam, layout: Layout): Promise<ParamDelta> {
  const bytes = await writer.read(index);
  let at = 0;
  const take = (length: number) => {
    at += length;
    return bytes.slice(at - length, at).buffer;
  };
  if (param.kind === 'added') return { planes: [], added: new Uint16Array(take(bytes.length)) };
  if (param.kind === 'exact') {
    const count = param.spec.shape.reduce((product, dim) => product * dim, 1);
    const exact: Exact =
      layout.exact === 'BF16'
        ? { dtype: 'BF16', values: new Uint16Array(take(2 * count)) }
        : { dtype: 'I8', values: new Int8Array(take(count)), scale: new Float32Array(take(bytes.length - count)) };
    return { planes: [], exact: brainOf(exact) };
  }
  const signBytes = 4 * param.out * Math.ceil(param.inDim / 32);
  const planes = Array.from({ length: layout.planesOf(param.stem) }, () => ({
    signs: new Uint32Array(take(signBytes)),
    rowScale: new Float32Array(take(4 * param.out)),
    ...(layout.scale === 'row-col' ? { colScale: new Float32Array(take(4 * param.inDim)) } : {}),
  }));
  return { planes };
}

function bytesOf(values: Uint32Array | Float32Array | Uint16Array | Int8Array): Uint8Array {
  return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
}

function metadata(
  { name, scale, exact, planes, policy, calibration, tokenizer }: Settings,
  digests: { base: Digest; source: Digest },
  errors: Record<string, number>,
): Record<string, string> {
  const fixed = Object.entries(errors).map(
    ([stem, error]) => `${JSON.stringify(stem)}:${error.toFixed(ERROR_DECIMALS)}`,
  );
  return {
    format: DELTA_FORMAT,
    base: digests.base,
    expert: name,
    method: calibration === undefined ? 'sign' : 'sign-calibrated',
    parameters: JSON.stringify({ scale, exact, planes, policy }),
    errors: `{${fixed.join()}}`,
    ...(calibration === undefined ? {} : { calibration: calibration.digest }),
    ...(tokenizer === undefined ? {} : { tokenizer: JSON.stringify(tokenizer) }),
    source: digests.source,
    packer: PACKER_VERSION,
  };
}
