/**
 * Buffers that steps compute in, beside weights, slots and cache: activations, angles, attention's splits. What was announced is set aside at the start, so
 * that a GPU with too little memory is found out then.
 */
import type { Activations, DeviceConfig, RopeTable } from '../device.ts';
import type { Gpu } from './adapter.ts';
import { USAGE } from './buffers.ts';
import { GROUP_COLUMNS, groupsOf } from './pack.ts';

/** Of activations that may not be there yet. */
export type ActivationShape = Activations;

export interface ScratchLayout {
  readonly activations: readonly ActivationShape[];
  /** Of them, those that tokens are chosen from. */
  readonly logits?: ActivationShape;
  /** That there are angles for. */
  readonly positions: number;
}

/** Kernels bind from 0 to here. */
const BINDINGS = 9;
const STAND_IN_BYTES = 256;

/** Floats of a row: whole groups, zero beyond the last column. */
export function strideOf(cols: number): number {
  return groupsOf(cols) * GROUP_COLUMNS;
}

export function activationBytes({ capacity, cols }: ActivationShape): number {
  return Math.max(capacity, 1) * strideOf(cols) * 4;
}

/** @param splitFloats see Tuning.splitFloats. */
export function scratchBytes({ activations, positions }: ScratchLayout, { kv }: DeviceConfig, splitFloats: number) {
  const ofActivations = activations.reduce((sum, shape) => sum + activationBytes(shape), 0);
  return ofActivations + positions * kv.headDim * 4 + splitFloats * 4 + BINDINGS * STAND_IN_BYTES;
}

export class Scratch {
  readonly splits: GPUBuffer;
  readonly #gpu: Gpu;
  readonly #standIns: readonly GPUBuffer[];
  /** Set aside, and not in use yet. */
  readonly #spare: GPUBuffer[];
  readonly #inUse = new Set<GPUBuffer>();
  readonly #tables = new Map<Float32Array, { readonly id: number; readonly buffer: GPUBuffer }>();

  constructor(gpu: Gpu, { activations, positions }: ScratchLayout, { kv }: DeviceConfig, splitFloats: number) {
    this.#gpu = gpu;
    const angles = positions === 0 ? [] : [positions * kv.headDim * 4];
    this.#spare = [...activations.map(activationBytes), ...angles].map((bytes) => this.#create('activations', bytes));
    this.splits = this.#create('splits of attention', splitFloats * 4);
    this.#standIns = Array.from({ length: BINDINGS }, (_, binding) =>
      this.#create(`unused ${binding}`, STAND_IN_BYTES),
    );
  }

  activations(shape: ActivationShape): GPUBuffer {
    return this.#take(activationBytes(shape));
  }

  /** What can be read only after it was submitted, or never, is gone. */
  release(buffer: GPUBuffer): void {
    this.#inUse.delete(buffer);
    buffer.destroy();
  }

  /** Cosines, then sines. @param fill puts bytes into a buffer. */
  angles({ cos, sin }: RopeTable, fill: (buffer: GPUBuffer, parts: readonly Float32Array[]) => void) {
    const found = this.#tables.get(cos);
    if (found !== undefined) return found;
    const table = { id: this.#tables.size, buffer: this.#take(cos.byteLength + sin.byteLength) };
    fill(table.buffer, [cos, sin]);
    this.#tables.set(cos, table);
    return table;
  }

  /** Stands where a kernel binds what a dispatch doesn't use. */
  unused(binding: number): GPUBuffer {
    const found = this.#standIns[binding];
    if (found === undefined) throw new RangeError(`kernels bind 0 to ${BINDINGS - 1}, not ${binding}`);
    return found;
  }

  close(): void {
    for (const buffer of [...this.#spare, ...this.#inUse, this.splits, ...this.#standIns]) buffer.destroy();
  }

  #take(bytes: number): GPUBuffer {
    const at = this.#spare.findIndex(({ size }) => size === bytes);
    const [spare] = at === -1 ? [] : this.#spare.splice(at, 1);
    const buffer = spare ?? this.#create('activations', bytes);
    this.#inUse.add(buffer);
    return buffer;
  }

  #create(label: string, size: number): GPUBuffer {
    const usage = USAGE.storage | USAGE.copySource | USAGE.copyTarget;
    return this.#gpu.device.createBuffer({ label, size, usage });
  }
}
