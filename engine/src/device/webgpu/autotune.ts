/**
 * Which sizes of the matvec kernel an adapter is fastest with: measured once, kept in a file by adapter and driver.
 */
import { randomUUID } from 'node:crypto';
import { mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { z } from 'zod';
import type { ParamDtype, StepBatch } from '../device.ts';
import { floatToBrain, floatToHalf } from '../float.ts';
import type { Gpu } from './adapter.ts';
import type { MatrixFormat } from './pack.ts';
import type { MatmulKernel, MatvecShape, Measured } from './tuning.ts';
import { WebGpuDevice } from './webgpu-device.ts';

export interface TuningOptions {
  /** Formats that there will be matrices of. */
  readonly formats: readonly MatrixFormat[];
  /** File that results are kept in; nowhere where it is left out. */
  readonly cache?: string | undefined;
}

/** What is tried, and on matrices of what size: in software, of one that shows a difference soon. */
const TRIALS = {
  hardware: { workgroups: [32, 64, 128, 256], passes: [1, 2, 4], matrices: 8, side: 4096 },
  software: { workgroups: [4, 16], passes: [4, 16], matrices: 1, side: 256 },
} as const;
/** Rows of x: what is best for 8 is used from 2 on. */
const ROWS = [1, 8] as const;
/** Of a prompt: enough for tiles. */
const PROMPT_ROWS = 64;
const ROUNDS = 3;
const PARAM_STORAGE = {
  bf16: { dtype: 'BF16', format: 'stored' },
  f16: { dtype: 'F16', format: 'stored' },
  f32: { dtype: 'F32', format: 'stored' },
  q8: { dtype: 'BF16', format: 'q8' },
  q4: { dtype: 'BF16', format: 'q4' },
} as const;

const shapesSchema = z.record(
  z.string(),
  z.object({ workgroup: z.number().int().min(4).max(1024), passes: z.number().int().min(1).max(64) }),
);
const fileSchema = z.record(
  z.string(),
  z.object({ matvec: shapesSchema, matmul: z.enum(['matmul', 'matmul_matrices']) }),
);

export function defaultTuningFile(): string {
  return join(process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'signpost', 'webgpu-tuning.json');
}

/** What is best on an adapter, from the file where it has all that is asked for. */
export async function tuned(gpu: Gpu, { formats, cache }: TuningOptions): Promise<Measured> {
  const known = cache === undefined ? {} : await readTuning(cache);
  const own = known[gpu.identity.key];
  const missing = formats.filter((format) => ROWS.some((rows) => own?.matvec[`${format} ${rows}`] === undefined));
  if (own !== undefined && missing.length === 0) return own;
  const matvec: Record<string, MatvecShape> = { ...own?.matvec };
  for (const format of missing) for (const rows of ROWS) matvec[`${format} ${rows}`] = await best(gpu, format, rows);
  const measured = { matvec, matmul: own?.matmul ?? (await bestMatmul(gpu)) };
  if (cache !== undefined) await writeTuning(cache, { ...known, [gpu.identity.key]: measured });
  return measured;
}

async function best(gpu: Gpu, format: MatrixFormat, rows: number): Promise<MatvecShape> {
  const { workgroups, passes } = TRIALS[gpu.identity.isSoftware ? 'software' : 'hardware'];
  const { maxComputeInvocationsPerWorkgroup: mostLanes, maxComputeWorkgroupStorageSize: mostBytes } = gpu.device.limits;
  // Lanes' partial sums must fit where there are no subgroups.
  const fits = (workgroup: number) => workgroup <= mostLanes && workgroup * rows * 4 * 4 <= mostBytes;
  const shapes = workgroups.filter(fits).flatMap((workgroup) => passes.map((count) => ({ workgroup, passes: count })));
  let fastest: { readonly shape: MatvecShape; readonly ms: number } | undefined;
  for (const shape of shapes) {
    const matvec = { [`${format} ${rows}`]: shape };
    const { ms } = await measure(gpu, format, rows, { matvec, matmul: 'matmul' });
    if (fastest === undefined || ms < fastest.ms) fastest = { shape, ms };
  }
  if (fastest === undefined) throw new Error(`no shape of ${rows} rows fits ${gpu.identity.name}`);
  return fastest.shape;
}

/** Matrix units where the adapter has them, they are faster, and what they compute is right: Dawn calls them an experiment. */
export async function bestMatmul(gpu: Gpu): Promise<MatmulKernel> {
  const { f16, matrixUnit, subgroups } = gpu.features;
  if (!f16 || matrixUnit === undefined || subgroups === undefined) return 'matmul';
  const plain = await measure(gpu, 'bf16', PROMPT_ROWS, { matvec: {}, matmul: 'matmul' });
  // What a driver refuses here must not count as a fault.
  gpu.device.pushErrorScope('validation');
  const units = await measure(gpu, 'bf16', PROMPT_ROWS, { matvec: {}, matmul: 'matmul_matrices' });
  const refusal = await gpu.device.popErrorScope();
  const isRight = refusal === null && areNear(units.values, plain.values);
  return isRight && units.ms < plain.ms ? 'matmul_matrices' : 'matmul';
}

/** Within what rounding to F16 explains. */
export function areNear(got: Float32Array, want: Float32Array): boolean {
  const most = want.reduce((max, value) => Math.max(max, Math.abs(value)), 0);
  return most > 0 && want.every((value, i) => Math.abs(value - (got[i] ?? Number.NaN)) <= 1e-2 * most);
}

/** Milliseconds of one round over the matrices, and what the last of them gave. */
async function measure(
  gpu: Gpu,
  format: MatrixFormat,
  rows: number,
  measured: Measured,
): Promise<{ readonly ms: number; readonly values: Float32Array }> {
  const { matrices, side } = TRIALS[gpu.identity.isSoftware ? 'software' : 'hardware'];
  const params = Array.from({ length: matrices }, (_, i) => ({ name: `tuned ${i}`, shape: [side, side] as const }));
  const storage = PARAM_STORAGE[format];
  const device = await WebGpuDevice.open(
    { ...gpu, close() {} },
    { params, slots: 0, kv: { layers: 1, blocks: 1, blockTokens: 1, kvHeads: 1, headDim: 4 } },
    {
      storage: params.map(() => storage),
      groups: [],
      sections: [],
      rows,
      heads: 1,
      slotBytes: 4,
      measured,
    },
  );
  try {
    const weights = smallValues(side * side, storage.dtype);
    for (const param of params.keys()) device.loadParam(param, storage.dtype, weights, storage.format);
    const [x, out] = [device.activations(rows, side), device.activations(rows, side)];
    const input = Float32Array.from({ length: rows * side }, (_, i) => Math.sin(i));
    const values = new Float32Array(rows * side);
    const round = async () => {
      const start = performance.now();
      device.begin(batchOf(rows));
      device.write(x, input);
      for (const param of params.keys()) device.linears(x, [{ out, param }]);
      await device.read(out, values);
      return performance.now() - start;
    };
    await round();
    let ms = Number.POSITIVE_INFINITY;
    for (let i = 0; i < ROUNDS; i++) ms = Math.min(ms, await round());
    return { ms, values };
  } finally {
    await device.close();
  }
}

/** Some below 1 of both signs, in any of the formats that a checkpoint has. */
function smallValues(count: number, dtype: ParamDtype): Uint8Array {
  const values = Float32Array.from({ length: count }, (_, i) => Math.sin(i * 0.7) / 4);
  if (dtype === 'F32') return new Uint8Array(values.buffer);
  return new Uint8Array(Uint16Array.from(values, dtype === 'BF16' ? floatToBrain : floatToHalf).buffer);
}

function batchOf(rows: number): StepBatch {
  return {
    tokens: new Int32Array(rows),
    positions: new Int32Array(rows),
    sequenceStart: Int32Array.from({ length: rows + 1 }, (_, row) => row),
    blockTable: new Int32Array(rows),
    blocksPerSequence: 1,
    mixtureStart: new Int32Array(rows + 1),
    mixtureSlots: new Int32Array(0),
    mixtureWeights: new Float32Array(0),
    logitRows: new Int32Array(0),
  };
}

/** What was measured before; nothing where the file isn't there, or isn't one of ours. */
async function readTuning(file: string): Promise<z.infer<typeof fileSchema>> {
  try {
    return fileSchema.parse(JSON.parse(await readFile(file, 'utf8')));
  } catch {
    return {};
  }
}

/** Whole or not at all. Where it can't be written, the next start measures again. */
async function writeTuning(file: string, tuning: z.infer<typeof fileSchema>): Promise<void> {
  const draft = `${file}.${randomUUID()}`;
  try {
    await mkdir(dirname(file), { recursive: true });
    await writeFile(draft, JSON.stringify(tuning, undefined, 2));
    await rename(draft, file);
  } catch {
    await rm(draft, { force: true });
  }
}
