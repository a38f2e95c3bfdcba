/**
 * What a device must offer to run the forward pass (model/forward.ts): resident base parameters, expert deltas in slots of
 * fixed size, a blocked KV cache, and about a dozen ops over a ragged batch.
 *
 * Knows no tokenizer, no queue, no names: parameters, slots and buffers are plain integers handed out by the caller.
 * `device/reference` defines what each op means; every other device is tested against it.
 */

import type { ChosenToken, TokenChoice } from './choice.ts';

/** Where a parameter's bytes stand in a file. */
export interface ParamSource {
  readonly path: string;
  readonly offset: number;
}

/** Storage types a base parameter may have. */
export type ParamDtype = 'BF16' | 'F16' | 'F32';

/**
 * How a base parameter is held: as it is stored, or as 8- or 4-bit values in groups of 32 columns, each with an F16 scale (see quantize.ts). Only
 * matrices may be quantised.
 */
export type ParamFormat = 'stored' | 'q8' | 'q4';

/** One base parameter: a matrix `(out, in)` row-major, or a vector `(n)`. Its index in the model's list is its id. */
export interface ParamSpec {
  /** Checkpoint name, e.g. `model.layers.3.mlp.up_proj.weight`. */
  readonly name: string;
  readonly shape: readonly [number] | readonly [number, number];
}

/** One 1-bit plane `diag(rowScale) · S · diag(colScale)` of a matrix `(out, in)`. */
export interface SignPlane {
  readonly signs: Uint32Array; // (out, ceil(in / 32)); bit i % 32 of word i / 32 is 1 for +1, 0 for -1
  readonly rowScale: Float32Array; // (out) or (1)
  readonly colScale?: Float32Array; // (in)
}

/**
 * What an expert adds to one parameter: any number of 1-bit planes, and at most one exact BF16 difference. To a matrix of tokens (an embedding, a
 * head) also whole rows below the base's, for tokens that the base doesn't have.
 */
export interface ParamDelta {
  readonly planes: readonly SignPlane[];
  readonly exact?: Uint16Array; // BF16 bits, in the parameter's shape
  readonly added?: Uint16Array; // BF16 bits, (k, in)
}

interface Counted {
  readonly length: number;
}

/** A `ParamDelta` by the lengths of its arrays: what a file's header tells before they are there. */
export interface ParamDeltaLengths {
  readonly planes: readonly { readonly signs: Counted; readonly rowScale: Counted; readonly colScale?: Counted }[];
  readonly exact?: Counted;
  readonly added?: Counted;
}

/** Sizes a device needs before anything is loaded. */
export interface DeviceConfig {
  readonly params: readonly ParamSpec[];
  /** Expert slots; slot ids are 0 … slots - 1. */
  readonly slots: number;
  readonly kv: KvConfig;
}

interface KvConfig {
  readonly layers: number;
  /** Blocks in the cache, shared by all layers' tables: block `b` holds `blockTokens` positions of every layer. */
  readonly blocks: number;
  readonly blockTokens: number;
  readonly kvHeads: number;
  readonly headDim: number;
}

/**
 * One step's work: rows of several sequences, each row with its own mixture of experts.
 *
 * A sequence's rows stand together and are consecutive positions: one row is a decode step, several are a prefill chunk.
 */
export interface StepBatch {
  readonly tokens: Int32Array; // (rows)
  readonly positions: Int32Array; // (rows)
  /** Rows of sequence `s` are `sequenceStart[s]` … `sequenceStart[s + 1] - 1`. */
  readonly sequenceStart: Int32Array; // (sequences + 1)
  /** Block ids of sequence `s`, in order, at `s * blocksPerSequence`; unused entries are -1. */
  readonly blockTable: Int32Array; // (sequences, blocksPerSequence)
  readonly blocksPerSequence: number;
  /** Mixture of row `r`: terms `mixtureStart[r]` … `mixtureStart[r + 1] - 1`; none is the plain base. */
  readonly mixtureStart: Int32Array; // (rows + 1)
  readonly mixtureSlots: Int32Array; // (terms)
  readonly mixtureWeights: Float32Array; // (terms)
  /** Rows whose logits are wanted, ascending. */
  readonly logitRows: Int32Array; // (n)
  /** Positions after the batch's that each sequence has blocks for, too: a device that chooses tokens goes on by as many. 0 where it is left out. */
  readonly ahead?: number;
}

/** Scratch activations: a matrix of `cols` f32 values for up to `capacity` rows. */
export interface Activations {
  readonly cols: number;
  readonly capacity: number;
}

/** Cosines and sines for rotary embedding, one row per position: `(positions, headDim / 2)` each. */
export interface RopeTable {
  readonly cos: Float32Array;
  readonly sin: Float32Array;
  readonly headDim: number;
}

/** out[r] = W[r] x[r] (+ b[r]). `bias` is a vector parameter. */
export interface LinearLayer<A extends Activations> {
  readonly out: A;
  readonly param: number;
  readonly bias?: number | undefined;
}

/** The device is gone: nothing can be computed any more, here. */
export class DeviceLost extends Error {
  override readonly name = 'DeviceLost';
}

/**
 * A device. Ops act on the rows of the batch given to `begin`, in the order they are called, and may be queued until `read`.
 * `W[r]` below is the parameter as row `r` sees it: base + Σ weight · (Σ planes + exact) over the row's mixture. Below the base's rows it has those
 * that an expert of the mixture added. There is no base for them to differ from, so they count whole, whatever the expert's weight, and at most one
 * expert of a mixture may have any.
 * Loading into a slot never disturbs other slots; a slot's parameters may be loaded in any order.
 */
export interface Device<A extends Activations = Activations> {
  readonly name: string;

  /** Makes a base parameter resident: a copy. `data` may be memory-mapped. Throws on a wrong size. */
  loadParam(param: number, dtype: ParamDtype, data: Uint8Array, format: ParamFormat): void;
  /**
   * Of a device that can: the same of a part of a file, which it computes from where it stands. Format `stored`, dtype BF16 or F32. Nobody may write to the file
   * until `settle` is done. Throws where the file doesn't hold it, aligned to its elements.
   */
  mapParam?(param: number, dtype: ParamDtype, source: ParamSource): void;
  /**
   * Of a device that maps: copies what is mapped, beside its other work. @returns bytes that stay in files, since there was no memory for them. @throws Error with
   * the path when a file was written to since it was mapped.
   */
  settle?(): Promise<number>;
  /**
   * Of a device whose slots have a size: checks that one has room for all of these deltas, of a parameter each. @param what whose they are, for the message.
   * @throws Problem with the bytes needed and those of a slot.
   */
  checkRoom?(what: string, deltas: readonly { readonly param: number; readonly lengths: ParamDeltaLengths }[]): void;
  /** Puts one parameter's delta into a slot, replacing what was there. Throws on wrong shapes, and where the slot has no room. */
  loadDelta(slot: number, param: number, delta: ParamDelta): void;
  /** Empties a slot. */
  clearSlot(slot: number): void;

  activations(capacity: number, cols: number): A;
  /** Others of as many rows in place of `x`, which is gone. */
  resized(x: A, cols: number): A;

  /** Starts a step: checks every index of the batch against the device's sizes (throws RangeError), then uploads it. */
  begin(batch: StepBatch): void;
  /** out[r] = W[r][tokens[r]], a row of the embedding matrix. Throws RangeError for a token that row `r`'s matrix doesn't have. */
  embed(out: A, param: number): void;
  /**
   * out = x · W[r] / rms(x), over consecutive groups of `n` columns, where `n` is the parameter's length (a whole row for the
   * usual norms, one head for q/k norms). rms(x) = sqrt(mean(x²) + eps).
   */
  rmsNorm(out: A, x: A, param: number, eps: number): void;
  /** Layers of one input, each into its own `out`. Act on the batch's rows, or on `logitRows` after `gather`. */
  linears(x: A, layers: readonly LinearLayer<A>[]): void;
  /**
   * out[r] = W[r] x, the added rows included, and −∞ in the columns beyond row `r`'s own: `out` may be wider than the base's rows, and must be as wide
   * as any row's. Throws RangeError when it isn't, or two experts of a row's mixture have added rows.
   */
  head(out: A, x: A, param: number): void;
  /** Rotates consecutive heads of `x` in place by each row's position (halves convention: i pairs with i + headDim / 2). */
  rope(x: A, table: RopeTable): void;
  /** Writes each row's keys and values into the blocks of its sequence at its position. */
  storeKv(layer: number, keys: A, values: A): void;
  /**
   * Causal softmax attention of each row over its sequence's cached positions up to its own, heads grouped over kv heads.
   * `window`: only the last so many positions, the row's own included (0: all).
   */
  attention(out: A, queries: A, layer: number, scale: number, window: number): void;
  /** out = silu(gate) · up. */
  swiglu(out: A, gate: A, up: A): void;
  /** x += y. */
  add(x: A, y: A): void;
  /** Copies the batch's `logitRows` of `x` to the first rows of `out`; the ops that follow act on those rows. */
  gather(out: A, x: A): void;
  /** Sets the rows of the batch, (rows, cols): what `read` gave for them. */
  write(x: A, values: Float32Array): void;
  /**
   * Values of the rows that ops act on at this point, (rows, cols): in the first values of `into`, or in a buffer of their own. @throws
   * RangeError when `into` is too small.
   */
  read(x: A, into?: Float32Array): Promise<Float32Array>;

  /**
   * Of a device that can: instead of reading logits, chooses each of their rows' next token, as sampling/sampler.ts does but for float32's rounding. With
   * more than one of `steps` the ops since `begin` are computed again for it, one position on, and so forth: the batch is then one row of each sequence,
   * all of them in `logitRows`, and `ahead` is `steps` - 1 or more. Gives tokens by row, in order. @throws RangeError for a batch that isn't.
   */
  choose?(logits: A, rows: readonly TokenChoice[], steps: number): Promise<ChosenToken[][]>;

  /**
   * Of a device that compiles: makes all that steps with the ops since `begin` can need, of however many rows, and to choose from these logits. Until it is
   * fulfilled nothing else may be asked for.
   *
   * @param onProgress told after each kernel how many are compiled.
   */
  warmUp?(logits: A, onProgress?: (compiled: number, total: number) => void): Promise<void>;
  /** Bytes that were set aside at the start, of a device with memory of its own. */
  readonly memoryBytes?: number;

  /** Fulfilled once what was loaded so far needs no room on its way any more: to be awaited now and then by who loads much. */
  loaded(): Promise<void>;
  /** Bytes of base parameters that are resident. */
  readonly paramBytes: number;

  /** Fulfilled with why, should the device be lost: what it was asked for then fails with `DeviceLost`, and nothing more can be. */
  readonly lost?: Promise<string>;

  /** Frees what the device holds; it can't be used afterwards. A thread that used it may end once this is fulfilled. */
  close(): void | Promise<void>;
}
