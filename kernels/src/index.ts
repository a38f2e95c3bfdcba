/**
 * The native kernels' face: typed arrays in, numbers out. Built by `npm ci` from `src/native`; one source for every instruction set, the best
 * one of this machine (or `SIGNPOST_ISA`) chosen at run time. `SIGNPOST_THREADS` bounds the pool.
 *
 * The addon keeps raw pointers into the arrays it is given: the caller keeps those of parameters and deltas alive (see the engine's cpu device).
 * Every size and index is checked; what is wrong throws a RangeError.
 */
import { createRequire } from 'node:module';

export type InstructionSet = 'avx512' | 'avx2' | 'neon' | 'portable';

/** How elements of a raw buffer are to be read. */
export const NATIVE_DTYPE = { BF16: 0, F16: 1, F32: 2 } as const;

/**
 * One model's memory and ops. A matrix of activations is a Float32Array whose rows are `activationStride(cols)` apart, zero beyond `cols`.
 */
export interface NativeDevice {
  /** `dtype` BF16 or F32. */
  loadParam(param: number, dtype: number, data: Uint8Array): void;
  addPlane(
    slot: number,
    param: number,
    signs: Uint32Array, // (out, ceil(in / 32))
    rowScale: Float32Array, // (out) or (1)
    colScale: Float32Array | undefined, // (in)
  ): void;
  setExact(slot: number, param: number, exact: Uint16Array): void;
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
  /** `bias` -1 for none. */
  linear(out: Float32Array, outCols: number, x: Float32Array, inCols: number, param: number, bias: number): void;
  rope(x: Float32Array, cols: number, cos: Float32Array, sin: Float32Array, headDim: number): void;
  storeKv(layer: number, keys: Float32Array, values: Float32Array): void;
  attention(out: Float32Array, queries: Float32Array, cols: number, layer: number, scale: number, window: number): void;
  swiglu(out: Float32Array, gate: Float32Array, up: Float32Array, cols: number): void;
  add(x: Float32Array, y: Float32Array, cols: number): void;
  gather(out: Float32Array, x: Float32Array, cols: number): void;
}

interface Addon {
  readonly NativeDevice: new (
    shapes: Int32Array, // (params, 2): out, in; a vector's second is 0
    slots: number,
    kv: Int32Array, // layers, blocks, block tokens, kv heads, head size
    instructionSet?: InstructionSet,
  ) => NativeDevice;
  mapFile(path: string): ArrayBuffer;
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
  ): Float64Array;
  setThreads(count: number): void;
  threads(): number;
  instructionSets(): InstructionSet[];
}

const addon = createRequire(import.meta.url)('../build/Release/kernels.node') as Addon;

export const { NativeDevice, mapFile, setThreads, threads, instructionSets } = addon;

/** Floats between the beginnings of two rows: sign words take 32 columns at a time. */
export function activationStride(cols: number): number {
  return Math.ceil(cols / 32) * 32;
}

export type RawDtype = keyof typeof NATIVE_DTYPE;

export interface RawMatrix {
  readonly dtype: RawDtype;
  readonly data: Uint8Array; // (out, in)
}

export interface SignPacked {
  readonly planes: readonly { readonly signs: Uint32Array; readonly rowScale: Float32Array }[];
  /** Σ Δ²; NaN when a difference is not finite. */
  readonly differenceSquared: number;
  /** Σ (Δ − Δ̂)² with all planes. */
  readonly residualSquared: number;
}

/**
 * The difference of two matrices (out, in) as 1-bit planes. Sign +1 where what is left is ≥ 0; scale the mean absolute value of what is left,
 * by row or of the matrix. Differences and what a plane leaves are float32, sums float64 in element order.
 *
 * @throws RangeError when a buffer doesn't fit the shape or isn't aligned.
 */
export function signPack(
  base: RawMatrix,
  tuned: RawMatrix,
  shape: { readonly out: number; readonly inDim: number },
  options: { readonly scale: 'row' | 'matrix'; readonly planes: number },
): SignPacked {
  const { out, inDim } = shape;
  const planes = Array.from({ length: options.planes }, () => ({
    signs: new Uint32Array(out * Math.ceil(inDim / 32)),
    rowScale: new Float32Array(options.scale === 'row' ? out : 1),
  }));
  const [differenceSquared = Number.NaN, residualSquared = Number.NaN] = addon.signPack(
    base.data,
    NATIVE_DTYPE[base.dtype],
    tuned.data,
    NATIVE_DTYPE[tuned.dtype],
    out,
    inDim,
    options.scale === 'row',
    planes.map(({ signs }) => signs),
    planes.map(({ rowScale }) => rowScale),
  );
  return { planes, differenceSquared, residualSquared };
}
