/**
 * The base's parameters on the GPU: matrices in buffers under the adapter's limits, those that share an input in one; vectors in F32, all in one.
 */
import type { ParamDtype, ParamFormat, ParamSpec } from '../device.ts';
import type { Gpu } from './adapter.ts';
import { type Uploads, USAGE } from './buffers.ts';
import { decodeValues, type MatrixFormat, matrixBytes, matrixFormat, type ParamStorage, packMatrix } from './pack.ts';

/** Rows of a matrix that stand in one buffer. */
export interface MatrixPart {
  readonly buffer: GPUBuffer;
  readonly firstRow: number;
  readonly rows: number;
  /** In vec4s of words. */
  readonly weights: number;
  readonly scales: number;
}

export interface Matrix {
  readonly kind: 'matrix';
  readonly rows: number;
  readonly columns: number;
  readonly format: MatrixFormat;
  readonly parts: readonly MatrixPart[];
}

interface Vector {
  readonly kind: 'vector';
  readonly length: number;
  /** Of the buffer of vectors, in floats. */
  readonly begin: number;
}

export interface WeightsLayout {
  readonly specs: readonly ParamSpec[];
  /** By parameter. */
  readonly storage: readonly ParamStorage[];
  /** Matrices that linear layers of one input have. */
  readonly groups: readonly (readonly number[])[];
}

const VEC4_BYTES = 16;

export class Weights {
  /** Of all vectors. */
  readonly vectors: GPUBuffer;
  readonly #layout: WeightsLayout;
  readonly #uploads: Uploads;
  readonly #params: (Matrix | Vector)[] = [];
  readonly #loaded = new Set<number>();

  constructor(gpu: Gpu, layout: WeightsLayout, uploads: Uploads) {
    this.#layout = layout;
    this.#uploads = uploads;
    const { device } = gpu;
    const create = (label: string, size: number) =>
      device.createBuffer({ label, size, usage: USAGE.storage | USAGE.copyTarget | USAGE.copySource });
    let vectorFloats = 0;
    for (const [param, { shape }] of layout.specs.entries()) {
      const [length, columns] = shape;
      if (columns !== undefined) continue;
      this.#params[param] = { kind: 'vector', length, begin: vectorFloats };
      vectorFloats += length;
    }
    this.vectors = create('vectors', vectorBytes(layout));
    for (const group of bufferGroups(layout, limitOf(device.limits))) {
      const size = group.reduce((sum, part) => sum + part.bytes, 0);
      const buffer = create(group.map(({ param }) => layout.specs[param]?.name).join(' '), size);
      let begin = 0;
      for (const { param, firstRow, rows, scales, bytes } of group) {
        const part = { buffer, firstRow, rows, weights: begin / VEC4_BYTES, scales: (begin + scales) / VEC4_BYTES };
        const matrix = this.#params[param];
        const before = matrix?.kind === 'matrix' ? matrix.parts : [];
        this.#params[param] = { ...matrixOf(layout, param), parts: [...before, part] };
        begin += bytes;
      }
    }
  }

  load(param: number, dtype: ParamDtype, data: Uint8Array, format: ParamFormat): void {
    const held = this.#at(param);
    const storage = this.#layout.storage[param];
    const values = held.kind === 'matrix' ? held.rows * held.columns : held.length;
    const valueBytes = dtype === 'F32' ? 4 : 2;
    if (data.byteLength !== values * valueBytes)
      throw new RangeError(`parameter ${param} has ${data.byteLength} bytes, its shape needs ${values * valueBytes}`);
    if (held.kind === 'vector' && format !== 'stored')
      throw new RangeError(`parameter ${param} is a vector; only a matrix can be ${format}`);
    if (storage?.dtype !== dtype || storage.format !== format)
      throw new RangeError(
        `parameter ${param} was announced as ${storage?.dtype} ${storage?.format}, and is ${dtype} ${format}`,
      );
    if (held.kind === 'vector') {
      const floats = decodeValues(dtype, data);
      this.#uploads.write(
        this.vectors,
        held.begin * 4,
        new Uint8Array(floats.buffer, floats.byteOffset, floats.byteLength),
      );
    } else {
      for (const { buffer, firstRow, rows, weights } of held.parts) {
        const rowBytes = held.columns * valueBytes;
        const own = data.subarray(firstRow * rowBytes, (firstRow + rows) * rowBytes);
        const { bytes } = matrixBytes(rows, held.columns, held.format);
        this.#uploads.writeLarge(buffer, weights * VEC4_BYTES, bytes, (target) =>
          packMatrix(target, own, held.columns, storage),
        );
      }
    }
    this.#loaded.add(param);
  }

  matrix(param: number): Matrix {
    const held = this.#at(param);
    if (held.kind !== 'matrix') throw new RangeError(`parameter ${param} is a vector; a matrix is needed`);
    return this.#resident(param, held);
  }

  /** Whether matrices stand in one buffer, which is theirs alone. */
  areTogether(params: readonly number[]): boolean {
    const parts = params.map((param) => this.matrix(param).parts);
    const buffers = new Set(parts.flatMap((each) => each.map(({ buffer }) => buffer)));
    return params.length === 1 || (buffers.size === 1 && parts.every(({ length }) => length === 1));
  }

  vector(param: number): Vector {
    const held = this.#at(param);
    if (held.kind !== 'vector') throw new RangeError(`parameter ${param} is a matrix; a vector is needed`);
    return this.#resident(param, held);
  }

  /** Bytes of what is loaded. */
  get bytes(): number {
    return [...this.#loaded].reduce((sum, param) => sum + paramBytes(this.#layout, param), 0);
  }

  close(): void {
    this.vectors.destroy();
    for (const param of this.#params)
      if (param.kind === 'matrix') for (const { buffer } of param.parts) buffer.destroy();
  }

  #at(param: number): Matrix | Vector {
    const held = this.#params[param];
    if (held === undefined) throw new RangeError(`parameter ${param} does not exist; there are ${this.#params.length}`);
    return held;
  }

  #resident<T>(param: number, held: T): T {
    if (!this.#loaded.has(param)) throw new RangeError(`parameter ${param} is not loaded`);
    return held;
  }
}

function limitOf(limits: GPUSupportedLimits): number {
  return Math.floor(Math.min(limits.maxStorageBufferBindingSize, limits.maxBufferSize) / 256) * 256;
}

interface PlannedPart {
  readonly param: number;
  readonly firstRow: number;
  readonly rows: number;
  readonly scales: number;
  readonly bytes: number;
}

/** What each buffer of matrices holds. */
function bufferGroups(layout: WeightsLayout, limit: number): PlannedPart[][] {
  const grouped = new Set(layout.groups.flat());
  const alone = [...layout.specs.keys()].filter((param) => !grouped.has(param)).map((param) => [param]);
  return [...layout.groups, ...alone].flatMap((group) => {
    const matrices = group.filter((param) => layout.specs[param]?.shape.length === 2);
    const parts = matrices.map((param) => partsOf(layout, param, limit));
    const bytes = parts.flat().reduce((sum, part) => sum + part.bytes, 0);
    const formats = new Set(matrices.map((param) => matrixOf(layout, param).format));
    if (matrices.length === 0) return [];
    // What a kernel reads at once is of one format.
    return bytes <= limit && formats.size === 1 ? [parts.flat()] : parts.flat().map((part) => [part]);
  });
}

/** A matrix in pieces of at most `limit` bytes. */
function partsOf(layout: WeightsLayout, param: number, limit: number): PlannedPart[] {
  const { rows, columns, format } = matrixOf(layout, param);
  const pieces = Math.ceil(matrixBytes(rows, columns, format).bytes / (limit - VEC4_BYTES));
  const pieceRows = Math.ceil(rows / pieces);
  return Array.from({ length: pieces }, (_, piece) => {
    const firstRow = piece * pieceRows;
    const own = Math.min(pieceRows, rows - firstRow);
    return { param, firstRow, rows: own, ...matrixBytes(own, columns, format) };
  });
}

function matrixOf({ specs, storage }: WeightsLayout, param: number): Omit<Matrix, 'parts'> {
  const [rows, columns] = specs[param]?.shape ?? [];
  const stored = storage[param];
  if (rows === undefined || columns === undefined || stored === undefined)
    throw new RangeError(`parameter ${param} is no matrix that was announced`);
  return { kind: 'matrix', rows, columns, format: matrixFormat(stored) };
}

function paramBytes(layout: WeightsLayout, param: number): number {
  const [rows = 0, columns] = layout.specs[param]?.shape ?? [];
  return columns === undefined ? rows * 4 : matrixBytes(rows, columns, matrixOf(layout, param).format).bytes;
}

/** Of all buffers. */
export function weightBytes(layout: WeightsLayout, limits: GPUSupportedLimits): number {
  const parts = bufferGroups(layout, limitOf(limits)).flat();
  return parts.reduce((sum, { bytes }) => sum + bytes, 0) + vectorBytes(layout);
}

/** Parts that matrices have beyond one each. */
export function extraParts(layout: WeightsLayout, limits: GPUSupportedLimits): number {
  const parts = bufferGroups(layout, limitOf(limits)).flat();
  return parts.length - new Set(parts.map(({ param }) => param)).size;
}

function vectorBytes({ specs }: WeightsLayout): number {
  const floats = specs.reduce((sum, { shape: [length, columns] }) => sum + (columns === undefined ? length : 0), 0);
  return Math.max(floats, 4) * 4;
}
