/**
 * Which sizes of the matvec and matmul kernels an adapter is fastest with: measured once, kept in a file by adapter and driver.
 */
import { randomUUID } from 'node:crypto';
import { mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { z } from 'zod';
import type { Gpu } from './adapter.ts';
import type { MatrixFormat } from './pack.ts';
import { type Trial, type TrialResult, trial } from './trial.ts';
import { DEFAULT_MATMUL, type MatmulShape, type MatvecShape, type Measured, matmulBytes } from './tuning.ts';

export interface TuningOptions {
  /** Formats that there will be matrices of. */
  readonly formats: readonly MatrixFormat[];
  /** File that results are kept in; nowhere where it is left out. */
  readonly cache?: string | undefined;
  /** How long a trial takes, and what comes of it; measured on the adapter where it is left out. */
  readonly trial?: (gpu: Gpu, trial: Trial) => Promise<TrialResult | undefined>;
}

/** What is tried. In software, where lanes cost more than all else, little is. */
const TRIALS = {
  hardware: {
    workgroups: [32, 64, 128, 256],
    passes: [1, 2, 4],
    outLanes: [8, 16, 32],
    rowLanes: [8, 16],
    groups: [1, 2],
  },
  software: { workgroups: [4, 16], passes: [4, 16], outLanes: [16], rowLanes: [8], groups: [1] },
} as const;
/** Rows of x: what is best for 8 is used from 2 on. */
const ROWS = [1, 8] as const;
/** Of a prompt: enough to fill tiles. */
const PROMPT_ROWS = 256;

const matvecSchema = z.object({
  workgroup: z.number().int().min(4).max(1024),
  passes: z.number().int().min(1).max(64),
});
const lanesSchema = z.number().int().min(1).max(64);
const matmulSchema = z.object({
  kernel: z.enum(['matmul', 'matmul_f16', 'matmul_matrices']),
  outLanes: lanesSchema,
  rowLanes: lanesSchema,
  groups: z.number().int().min(1).max(4),
});
const fileSchema = z.record(
  z.string(),
  z.object({ matvec: z.record(z.string(), matvecSchema), matmul: z.record(z.string(), matmulSchema) }),
);

export function defaultTuningFile(): string {
  return join(process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'signpost', 'webgpu-tuning.json');
}

/** What is best on an adapter, from the file where it has all that is asked for. */
export async function tuned(gpu: Gpu, { formats, cache, trial: tried = trial }: TuningOptions): Promise<Measured> {
  const known = cache === undefined ? {} : await readTuning(cache);
  const own = known[gpu.identity.key];
  const isKnown = (format: MatrixFormat) =>
    ROWS.every((rows) => own?.matvec[`${format} ${rows}`] !== undefined) && own?.matmul[format] !== undefined;
  const missing = formats.filter((format) => !isKnown(format));
  if (own !== undefined && missing.length === 0) return own;
  const matvec: Record<string, MatvecShape> = { ...own?.matvec };
  const matmul: Record<string, MatmulShape> = { ...own?.matmul };
  for (const format of missing) {
    for (const rows of ROWS) matvec[`${format} ${rows}`] = await bestMatvec(gpu, format, rows, tried);
    matmul[format] = await bestMatmul(gpu, format, tried);
  }
  const measured = { matvec, matmul };
  if (cache !== undefined) await writeTuning(cache, { ...known, [gpu.identity.key]: measured });
  return measured;
}

type Tried = NonNullable<TuningOptions['trial']>;

function trialsOf({ identity }: Gpu) {
  return TRIALS[identity.isSoftware ? 'software' : 'hardware'];
}

async function bestMatvec(gpu: Gpu, format: MatrixFormat, rows: number, tried: Tried): Promise<MatvecShape> {
  const { workgroups, passes } = trialsOf(gpu);
  const { maxComputeInvocationsPerWorkgroup: mostLanes, maxComputeWorkgroupStorageSize: mostBytes } = gpu.device.limits;
  // Lanes' partial sums must fit where there are no subgroups.
  const fits = (workgroup: number) => workgroup <= mostLanes && workgroup * rows * 4 * 4 <= mostBytes;
  const shapes = workgroups.filter(fits).flatMap((workgroup) => passes.map((count) => ({ workgroup, passes: count })));
  let fastest: { readonly shape: MatvecShape; readonly ms: number } | undefined;
  for (const shape of shapes) {
    const result = await tried(gpu, { kind: 'matvec', format, rows, shape });
    if (result !== undefined && (fastest === undefined || result.ms < fastest.ms)) fastest = { shape, ms: result.ms };
  }
  if (fastest === undefined) throw new Error(`no shape of ${rows} rows fits ${gpu.identity.name}`);
  return fastest.shape;
}

/** One that computes the same as the default, and is faster: what units and drivers do is theirs to say, and Dawn calls matrix units an experiment. */
export async function bestMatmul(gpu: Gpu, format: MatrixFormat, tried: Tried = trial): Promise<MatmulShape> {
  const others = matmulsOf(gpu);
  if (others.length === 0) return DEFAULT_MATMUL;
  const of = (shape: MatmulShape) => tried(gpu, { kind: 'matmul', format, rows: PROMPT_ROWS, shape });
  const plain = await of(DEFAULT_MATMUL);
  if (plain === undefined) throw new Error(`${gpu.identity.name} refuses the matmul that all adapters take`);
  let fastest = { shape: DEFAULT_MATMUL, ms: plain.ms };
  for (const shape of others) {
    const result = await of(shape);
    if (result === undefined || result.ms >= fastest.ms || !areNear(result.values, plain.values)) continue;
    fastest = { shape, ms: result.ms };
  }
  return fastest.shape;
}

/** All that fit an adapter but the default. */
function matmulsOf(gpu: Gpu): MatmulShape[] {
  const { outLanes, rowLanes, groups } = trialsOf(gpu);
  const { f16, matrixUnit, subgroups } = gpu.features;
  const { maxComputeInvocationsPerWorkgroup: mostLanes, maxComputeWorkgroupStorageSize: mostBytes } = gpu.device.limits;
  const kernels = f16 ? (['matmul', 'matmul_f16'] as const) : (['matmul'] as const);
  const tiles = kernels
    .flatMap((kernel) => outLanes.map((lanes) => ({ kernel, outLanes: lanes })))
    .flatMap((tile) => rowLanes.map((lanes) => ({ ...tile, rowLanes: lanes })))
    .flatMap((tile) => groups.map((count) => ({ ...tile, groups: count })))
    .filter((tile) => tile.outLanes * tile.rowLanes <= mostLanes && matmulBytes(tile) <= mostBytes)
    .filter((tile) => JSON.stringify(tile) !== JSON.stringify(DEFAULT_MATMUL));
  const hasUnits = f16 && matrixUnit !== undefined && subgroups !== undefined;
  return hasUnits ? [...tiles, { ...DEFAULT_MATMUL, kernel: 'matmul_matrices' }] : tiles;
}

/** Within what rounding to F16 explains. */
export function areNear(got: Float32Array, want: Float32Array): boolean {
  const most = want.reduce((max, value) => Math.max(max, Math.abs(value)), 0);
  return most > 0 && want.every((value, i) => Math.abs(value - (got[i] ?? Number.NaN)) <= 1e-2 * most);
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
