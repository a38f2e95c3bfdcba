/**
 * Made-up models and batches for the device tests.
 */
import { noise } from '@signpost/kernels/testing';
import fc from 'fast-check';
import type { Device, DeviceConfig, ParamDelta, ParamDtype, ParamFormat, StepBatch } from './device.ts';
import { floatToBrain } from './float.ts';

export interface Shape {
  readonly seed: number;
  readonly inDim: number;
  readonly outDim: number;
  readonly dtype: ParamDtype;
  /** Of the matrices. */
  readonly format: ParamFormat;
  readonly planes: number;
  readonly scale: 'row' | 'matrix' | 'row-col';
  readonly isExact: boolean;
  readonly hasBias: boolean;
  /** Rows that the expert in `ADDING_SLOT` adds to the embedding and the matrix. */
  readonly added: number;
  /** Rows of each sequence, and tokens before them. */
  readonly sequences: readonly { readonly rows: number; readonly past: number; readonly experts: readonly number[] }[];
}

export const SLOTS = 3;
export const ADDING_SLOT = 1;
export const KV = { layers: 1, blocks: 24, blockTokens: 4, kvHeads: 2, headDim: 6 };
export const HEADS = 4;

const sequence = fc.record({
  rows: fc.integer({ min: 1, max: 9 }),
  past: fc.integer({ min: 0, max: 9 }),
  experts: fc.uniqueArray(fc.nat(SLOTS - 1), { maxLength: 3 }),
});
export const shape: fc.Arbitrary<Shape> = fc.record({
  seed: fc.integer({ min: 1, max: 2 ** 30 }),
  // Past 512 columns the kernels work in chunks; past 32 outputs in blocks.
  inDim: fc.oneof(
    { weight: 3, arbitrary: fc.integer({ min: 1, max: 100 }) },
    { weight: 1, arbitrary: fc.constantFrom(32, 64, 256, 511, 512, 513, 545, 1000, 1040) },
  ),
  outDim: fc.integer({ min: 1, max: 75 }),
  dtype: fc.constantFrom<ParamDtype>('BF16', 'F16', 'F32'),
  format: fc.constantFrom<ParamFormat>('stored', 'q8', 'q4'),
  planes: fc.nat(2),
  scale: fc.constantFrom('row', 'matrix', 'row-col'),
  isExact: fc.boolean(),
  hasBias: fc.boolean(),
  added: fc.nat(5),
  sequences: fc.array(sequence, { minLength: 1, maxLength: 4 }),
});

/** Ids of the parameters every test device has. */
export const PARAM = { embedding: 0, matrix: 1, bias: 2, norm: 3, headNorm: 4 } as const;
export const VOCAB = 11;

export function configOf({ inDim, outDim }: Shape): DeviceConfig {
  return {
    slots: SLOTS,
    kv: KV,
    params: [
      { name: 'embedding', shape: [VOCAB, inDim] },
      { name: 'matrix', shape: [outDim, inDim] },
      { name: 'bias', shape: [outDim] },
      { name: 'norm', shape: [inDim] },
      { name: 'headNorm', shape: [KV.headDim] },
    ],
  };
}

/** How `fill` loads each parameter. */
export function storageOf(of: Shape): { dtype: ParamDtype; format: ParamFormat }[] {
  return configOf(of).params.map(({ shape: { length } }) => ({
    dtype: of.dtype,
    format: length === 1 ? 'stored' : of.format,
  }));
}

function paramBytes(dtype: ParamDtype, count: number, next: () => number): Uint8Array {
  if (dtype === 'F32') return new Uint8Array(Float32Array.from({ length: count }, next).buffer);
  // As F16 bits, a BF16 below 1 is some other finite number below 1.
  return new Uint8Array(Uint16Array.from({ length: count }, () => floatToBrain(next())).buffer);
}

function deltaOf({ planes, scale, isExact }: Shape, [out, inDim]: readonly number[], next: () => number): ParamDelta {
  const rows = out ?? 0;
  const list = Array.from({ length: inDim === undefined ? 0 : planes }, () => {
    const columns = inDim ?? 0;
    const plane = {
      signs: Uint32Array.from({ length: rows * Math.ceil(columns / 32) }, () => next() * 2 ** 31),
      rowScale: Float32Array.from({ length: scale === 'matrix' ? 1 : rows }, next),
    };
    return scale === 'row-col' ? { ...plane, colScale: Float32Array.from({ length: columns }, next) } : plane;
  });
  return isExact ? { planes: list, exact: brains(rows * (inDim ?? 1), next) } : { planes: list };
}

export function fill(device: Device, of: Shape): void {
  const next = noise(of.seed);
  for (const [param, { shape }] of configOf(of).params.entries()) {
    const count = shape.reduce((product, dim) => product * dim, 1);
    device.loadParam(param, of.dtype, paramBytes(of.dtype, count, next), shape.length === 1 ? 'stored' : of.format);
    for (let slot = 0; slot < SLOTS; slot++) {
      const adds = slot === ADDING_SLOT && (param === PARAM.embedding || param === PARAM.matrix);
      const added = adds ? { added: brains(of.added * of.inDim, next) } : {};
      device.loadDelta(slot, param, { ...deltaOf(of, shape, next), ...added });
    }
  }
}

function brains(count: number, next: () => number): Uint16Array {
  return Uint16Array.from({ length: count }, () => floatToBrain(next()));
}

export function batchOf({ sequences, seed, added }: Shape): StepBatch {
  const next = noise(seed + 1);
  const rows = sequences.flatMap(({ rows: count, past, experts }) =>
    Array.from({ length: count }, (_, i) => ({ position: past + i, experts })),
  );
  const starts = [0];
  for (const { rows: count } of sequences) starts.push((starts.at(-1) ?? 0) + count);
  const blocksPerSequence = 5;
  // Blocks out of order, none shared.
  const blockTable = Int32Array.from({ length: sequences.length * blocksPerSequence }, (_, i) => (i * 7 + 3) % 20);
  const mixtureStart = [0];
  for (const { experts } of rows) mixtureStart.push((mixtureStart.at(-1) ?? 0) + experts.length);
  return {
    tokens: Int32Array.from(rows, ({ experts }) =>
      Math.floor((next() + 1) * 0.5 * (VOCAB + (experts.includes(ADDING_SLOT) ? added : 0))),
    ),
    positions: Int32Array.from(rows, ({ position }) => position),
    sequenceStart: Int32Array.from(starts),
    blockTable,
    blocksPerSequence,
    mixtureStart: Int32Array.from(mixtureStart),
    mixtureSlots: Int32Array.from(rows.flatMap(({ experts }) => experts)),
    mixtureWeights: Float32Array.from(
      rows.flatMap(({ experts }) => experts),
      (expert) => 0.5 + expert / 4,
    ),
    logitRows: Int32Array.from(rows.keys()).filter((row) => row % 2 === 0),
  };
}
