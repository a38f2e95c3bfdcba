/**
 * The native kernels' face: typed arrays in, numbers out. Built by `npm ci` from `src/native`; one source for every instruction set, the
 * best one of this machine (or `SIGNPOST_ISA`) chosen at run time. `SIGNPOST_THREADS` bounds the pool, which all Node threads share.
 *
 * What is loaded into a device is copied, on huge pages: reading 4 KiB pages costs a fifth of the machine's bandwidth or more. What is mapped is computed from at
 * once, and copied by `settle`.
 * Every size and index is checked; what is wrong throws a RangeError.
 */
import { createRequire } from 'node:module';
import type { CalibrationKernels } from './calibration.ts';
import { type FileRange, type NativeSha256, sha256With } from './sha256.ts';

export type { FileRange } from './sha256.ts';

export type InstructionSet = 'avx512-vnni' | 'avx512' | 'avx2' | 'neon' | 'portable';

/** How elements of a raw buffer are to be read. */
export const NATIVE_DTYPE = { BF16: 0, F16: 1, F32: 2 } as const;

/** How a parameter is held: as it is, or in groups of 32 columns with an F16 scale each, of 8 or 4 bits a weight. */
export const NATIVE_FORMAT = { stored: 0, q8: 3, q4: 4 } as const;

/** What comes with linear layers: nothing, target += the only one's output, or of two, gate and up, target = silu(gate) · up. */
export const NATIVE_EPILOGUE = { none: 0, add: 1, swiglu: 2 } as const;

/**
 * One model's memory and ops. A matrix of activations is a Float32Array whose rows are `activationStride(cols)` apart, zero beyond `cols`.
 *
 * A row's result has the same bits whatever other rows are in the batch, with any number of threads, as a decode step or in a prefill chunk.
 */
export interface NativeDevice {
  /**
   * Copies a parameter into memory of the device's own, converted by all threads. `format`: of a matrix any, of a vector `stored`. F16 that is
   * stored so becomes F32.
   */
  loadParam(param: number, dtype: number, data: Uint8Array, format: number): void;
  /**
   * Has a parameter computed from where it stands in a file, as BF16 or F32, once it is read in: there is no copy of it until `settle`, so nobody may write to the
   * file. @throws Error with the path when it can't be mapped, RangeError when the parameter isn't in it or not aligned to its elements.
   */
  mapParam(param: number, dtype: number, path: string, offset: number): void;
  /**
   * Copies what is mapped as `loadParam` would have, beside whatever is computed meanwhile and giving way to it. Ends early when the device is closed.
   *
   * @returns bytes that stay in files, since there was no memory for them. @throws Error with the path when a file was written to since it was mapped.
   */
  settle(): Promise<number>;
  /** Bytes of all parameters loaded. */
  paramBytes(): number;
  addPlane(
    slot: number,
    param: number,
    signs: Uint32Array, // (out, ceil(in / 32))
    rowScale: Float32Array, // (out) or (1)
    colScale: Float32Array | undefined, // (in)
  ): void;
  /** `exact`: BF16 bits in the parameter's shape. */
  addExact(slot: number, param: number, exact: Uint16Array): void;
  /** `rows`: BF16 bits of rows below the matrix's own, (k, in); they are copied. */
  addRows(slot: number, param: number, rows: Uint16Array): void;
  clearParam(slot: number, param: number): void;
  begin(
    tokens: Int32Array, // (rows)
    positions: Int32Array, // (rows)
    sequenceStart: Int32Array, // (sequences + 1)
    blockTable: Int32Array, // (sequences, blocksPerSequence)
    blocksPerSequence: number,
    mixtureStart: Int32Array, // (rows + 1)
    mixtureSlots: Int32Array, // (terms)
    mixtureWeights: Float32Array, // (terms)
    logitRows: Int32Array,
  ): void;
  embed(out: Float32Array, cols: number, param: number): void;
  rmsNorm(out: Float32Array, x: Float32Array, cols: number, param: number, eps: number): void;
  /**
   * `layers`: `out`, its columns, parameter and bias (-1 for none) of each layer, one after the other. `epilogue`: one of NATIVE_EPILOGUE, as which `add` or `swiglu`
   * of their outputs comes with them, into `target`; it is not `x`.
   */
  linears(
    x: Float32Array,
    cols: number,
    epilogue: number,
    target: Float32Array | undefined,
    targetCols: number,
    ...layers: (Float32Array | number)[]
  ): void;
  /** As a layer of `linears`, with the added rows below, and −∞ beyond a row's own: `outCols` may be more than the matrix's rows. */
  head(out: Float32Array, outCols: number, x: Float32Array, inCols: number, param: number): void;
  rope(x: Float32Array, cols: number, cos: Float32Array, sin: Float32Array, headDim: number): void;
  storeKv(layer: number, keys: Float32Array, values: Float32Array): void;
  attention(out: Float32Array, queries: Float32Array, cols: number, layer: number, scale: number, window: number): void;
  swiglu(out: Float32Array, gate: Float32Array, up: Float32Array, cols: number): void;
  add(x: Float32Array, y: Float32Array, cols: number): void;
  gather(out: Float32Array, x: Float32Array, cols: number): void;
  /** Frees all memory; whatever is called afterwards throws. */
  close(): void;
}

interface Addon extends CalibrationKernels {
  readonly NativeDevice: new (
    shapes: Int32Array, // (params, 2): out, in; a vector's second is 0
    slots: number,
    kv: Int32Array, // layers, blocks, block tokens, kv heads, head size
    instructionSet?: InstructionSet,
  ) => NativeDevice;
  /**
   * Bytes of a file, mapped read-only until the buffer is collected; writing to it ends the process.
   *
   * @param offset a multiple of `MAP_GRANULE`.
   * @param length less than 4 GiB.
   * @throws Error with the path, the reason, and `code` and `errno` as Node's own errors have them; RangeError for a part outside the file.
   */
  mapFile(path: string, offset: number, length: number): ArrayBuffer;
  /**
   * Lets go of the memory behind bytes of a mapped file; they are read again when they are touched. Only for what `mapFile` gave: other memory would be lost.
   */
  releaseMapped(data: Uint8Array): void;
  /** Has the system read files from the disk, one after the other, beside whatever else is done: a hint, which fails for nothing. */
  readAhead(paths: readonly string[]): void;
  readonly sha256Ranges?: NativeSha256;
  signPack(
    base: Uint8Array,
    baseDtype: number,
    tuned: Uint8Array,
    tunedDtype: number,
    out: number,
    inDim: number,
    perRow: boolean,
    signs: readonly Uint32Array[],
    rowScales: readonly Float32Array[],
    absolute: Float64Array, // (planes, out)
    squared: Float64Array, // (planes + 1, out)
  ): void;
  /** See `groupPack` below. */
  groupPack(
    values: Uint8Array,
    scales: Uint16Array,
    format: number,
    data: Uint8Array,
    dtype: number,
    inDim: number,
  ): void;
  subtract(out: Float32Array, base: Uint8Array, baseDtype: number, tuned: Uint8Array, tunedDtype: number): void;
  /**
   * counts[h] += how many magnitudes of `values` have the bits h: their upper halves with `upper` -1, else the lower halves of those with that upper half.
   */
  countMagnitudes(counts: Uint32Array, values: Float32Array, upper: number): void;
  /**
   * TIES' election and disjoint merge (arXiv 2306.01708): at each element the sign of Σ weight · value is elected (+ where it is zero), the terms of that
   * sign are added up and, with `normalize`, divided by the sum of their weights. All in float32, terms in order.
   */
  electAndMerge(out: Float32Array, values: readonly Float32Array[], weights: Float32Array, normalize: boolean): void;
  /**
   * exp((logit − top) / temperature) of the logits above `cutLogit`, and of those equal to it up to index `cutId`; 0 of the others. In float64. `weights`
   * (n) may be left out.
   *
   * @returns their sum, in an order that only n decides.
   */
  softmaxWeights(
    logits: Float32Array, // (n)
    top: number,
    temperature: number,
    cutLogit: number,
    cutId: number,
    weights?: Float64Array, // (≥ n)
  ): number;
  /**
   * Where, of the likeliest tokens one after the other, the weights come to `target`: writes the ids of a narrow range of logits around that place, in
   * order, and returns how many they are and what all likelier tokens weigh.
   *
   * @param weights as `softmaxWeights` gave them for the same logits, `top` and `temperature`.
   */
  softmaxEdge(
    logits: Float32Array, // (n)
    weights: Float64Array, // (≥ n)
    top: number,
    temperature: number,
    target: number,
    ids: Int32Array, // (≥ n)
  ): [count: number, before: number];
  /**
   * Draws from the softmax of logits / temperature, of what is above `cutLogit`, and of those equal to it up to index `cutId`: the largest of
   * (logit − logits[best]) / temperature + Gumbel noise, the first of equals. Noise is Philox4x32-10's, of block ⌊id / 4⌋.
   *
   * @param best id of the largest logit.
   * @param key low and high word of the seed, then the counter's first two words, the second one first.
   */
  gumbelArgmax(
    logits: Float32Array, // (n)
    best: number,
    temperature: number,
    cutLogit: number,
    cutId: number,
    key: Uint32Array, // (4)
  ): number;
  /** The sum of a buffer's 64-bit words, modulo 2^64, read by all threads: what the machine's read bandwidth is measured with. */
  sumWords(data: Uint8Array): bigint;
  /**
   * A buffer on huge pages, as a device's weights are: filling it costs the system far fewer pages. Not zeroed, and costs nothing until it is written to.
   * @throws RangeError where there is no memory for it.
   */
  largeMemory(bytes: number): ArrayBuffer;
  /** The same, once the system has given it its pages, beside whatever is computed meanwhile and giving way to it: on a virtual machine they may cost 2 ms a megabyte. */
  clearedMemory(bytes: number): Promise<ArrayBuffer>;
  setThreads(count: number): void;
  threads(): number;
  instructionSets(): InstructionSet[];
}

const addon = createRequire(import.meta.url)('../build/Release/kernels.node') as Addon;

export const {
  NativeDevice,
  mapFile,
  releaseMapped,
  readAhead,
  setThreads,
  threads,
  instructionSets,
  gumbelArgmax,
  softmaxEdge,
  softmaxWeights,
  sumWords,
  clearedMemory,
  largeMemory,
  addMoment,
  factorMoment,
  chooseSigns,
  refineSigns,
  correctTargets,
  weightedProducts,
  weightedSquares,
  countMagnitudes,
  electAndMerge,
} = addon;

/** tuned − base in float32. @throws RangeError when one isn't aligned, or as long as the other. */
export function subtract(base: RawMatrix, tuned: RawMatrix): Float32Array {
  const out = new Float32Array(tuned.data.byteLength / (tuned.dtype === 'F32' ? 4 : 2));
  addon.subtract(out, base.data, NATIVE_DTYPE[base.dtype], tuned.data, NATIVE_DTYPE[tuned.dtype]);
  return out;
}

/** What a matrix is quantised into: rows in whole groups of 32 columns, zeros beyond the last one. */
export interface GroupBuffers {
  readonly values: Uint8Array; // (out, groups, 32) in q8, signed; (out, groups, 16) in q4, of each two the first in the low half, and 8 more than it means
  readonly scales: Uint16Array; // (out, groups) F16
}

/** Quantises a matrix of rows of `inDim` values, by all threads. @throws RangeError when a buffer doesn't fit the shape or isn't aligned. */
export function groupPack(
  { values, scales }: GroupBuffers,
  format: 'q8' | 'q4',
  matrix: RawMatrix,
  inDim: number,
): void {
  addon.groupPack(values, scales, NATIVE_FORMAT[format], matrix.data, NATIVE_DTYPE[matrix.dtype], inDim);
}

/** Where parts of a mapped file may begin: a multiple of every page size there is. */
export const MAP_GRANULE = 65_536;

/**
 * SHA-256 of parts of files in lower-case hex, computed beside the caller.
 *
 * @param coresLeft to whatever else is done meanwhile; one computes in any case.
 * @throws Error naming the file that can't be read to the end of its part.
 */
export function sha256Ranges(ranges: readonly FileRange[], coresLeft = 0): Promise<string[]> {
  return sha256With(addon.sha256Ranges, ranges, coresLeft);
}

/** Floats between the beginnings of two rows: sign words take 32 columns at a time. */
export function activationStride(cols: number): number {
  return Math.ceil(cols / 32) * 32;
}

export type RawDtype = keyof typeof NATIVE_DTYPE;

export interface RawMatrix {
  readonly dtype: RawDtype;
  readonly data: Uint8Array; // (out, in)
}

/** What a plane is written into. */
export interface PlaneBuffers {
  readonly signs: Uint32Array; // (out, ceil(in / 32))
  readonly rowScale: Float32Array; // (out) or (1)
}

export interface PackedPlane extends PlaneBuffers {
  /** Σ |left| of each row before this plane, whose mean is the scale. */
  readonly absolute: Float64Array; // (out)
  /** Σ left² of each row after this plane: its residual error. */
  readonly residualSquared: Float64Array; // (out)
}

export interface SignPacked {
  readonly planes: readonly PackedPlane[];
  /** Σ Δ²; NaN when a difference is not finite. */
  readonly differenceSquared: number;
  /** Σ (Δ − Δ̂)² with all planes. */
  readonly residualSquared: number;
}

/**
 * The difference of two matrices (out, in) as 1-bit planes, each of what the planes before it left. Sign +1 where what is left is ≥ 0; scale the
 * mean absolute value of what is left, by row or of the matrix.
 *
 * Differences and what a plane leaves are float32. Sums are float64 in one order, whatever the number of threads and the instruction set: along a row in
 * 16 lanes, of which lane l adds elements l, l + 16, l + 32 … and which are then added by halves (lane l to lane l + 8, + 4, + 2, + 1); then row by row.
 * Plain TypeScript that adds in this order gets the same bits.
 *
 * @param buffers of each plane, where rows belong to a larger matrix.
 * @throws RangeError when a buffer doesn't fit the shape or isn't aligned.
 */
export function signPack(
  base: RawMatrix,
  tuned: RawMatrix,
  shape: { readonly out: number; readonly inDim: number },
  options: { readonly scale: 'row' | 'matrix'; readonly planes: number },
  buffers: readonly PlaneBuffers[] = planeBuffers(shape, options),
): SignPacked {
  const { out, inDim } = shape;
  const absolute = new Float64Array(options.planes * out);
  const squared = new Float64Array((options.planes + 1) * out);
  const row = (sums: Float64Array, index: number) => sums.subarray(index * out, (index + 1) * out);
  const planes = buffers.map((buffer, plane) => ({
    ...buffer,
    absolute: row(absolute, plane),
    residualSquared: row(squared, plane + 1),
  }));
  addon.signPack(
    base.data,
    NATIVE_DTYPE[base.dtype],
    tuned.data,
    NATIVE_DTYPE[tuned.dtype],
    out,
    inDim,
    options.scale === 'row',
    planes.map(({ signs }) => signs),
    planes.map(({ rowScale }) => rowScale),
    absolute,
    squared,
  );
  const total = (index: number) => row(squared, index).reduce((sum, value) => sum + value, 0);
  const difference = total(0);
  return {
    planes,
    differenceSquared: Number.isFinite(difference) ? difference : Number.NaN,
    residualSquared: total(options.planes),
  };
}

/** Buffers for all planes of a matrix. */
export function planeBuffers(
  { out, inDim }: { readonly out: number; readonly inDim: number },
  { scale, planes }: { readonly scale: 'row' | 'matrix'; readonly planes: number },
): PlaneBuffers[] {
  return Array.from({ length: planes }, () => ({
    signs: new Uint32Array(out * Math.ceil(inDim / 32)),
    rowScale: new Float32Array(scale === 'row' ? out : 1),
  }));
}
