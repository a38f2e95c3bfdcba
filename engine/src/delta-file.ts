/**
 * A delta file, in memory or mapped: checked, and split into what a device loads.
 */
import { statSync } from 'node:fs';
import {
  checkDeltaFits,
  type DeltaLayout,
  type DeltaMetadata,
  type Digest,
  deltaLayout,
  headerLength,
  type ParamDeltaLayout,
  Problem,
  parseSafetensors,
  type SafetensorsHeader,
  type TensorInfo,
} from '@signpost/contracts';
import { mapTensors, readHeader } from './checkpoint/checkpoint.ts';
import type { ParamDelta, ParamDeltaLengths, ParamSpec, SignPlane } from './device/device.ts';
import { floatToBrain } from './device/float.ts';

interface DeltaPart {
  readonly stem: string;
  readonly lengths: ParamDeltaLengths;
  readonly end: number;
  readonly read: () => ParamDelta;
}

export class DeltaFile {
  /** What messages call it: a path or URL. */
  readonly where: string;
  readonly bytes: number;
  readonly #layout: DeltaLayout;
  readonly #dataOf: (tensor: TensorInfo) => Uint8Array;
  readonly #mapped: ReadonlySet<ArrayBufferLike>;

  /**
   * @param dataOf a tensor's bytes.
   * @param mapped buffers that are part of the file itself.
   * @throws Problem when the header is none of a well-formed delta file.
   */
  constructor(
    where: string,
    header: SafetensorsHeader,
    bytes: number,
    dataOf: (tensor: TensorInfo) => Uint8Array,
    mapped: ReadonlySet<ArrayBufferLike> = new Set(),
  ) {
    this.where = where;
    this.bytes = bytes;
    this.#layout = deltaLayout(header, where);
    this.#dataOf = dataOf;
    this.#mapped = mapped;
  }

  /** Whether an array's memory is the mapped file's, and no copy. */
  isMapped({ buffer }: ArrayBufferView): boolean {
    return this.#mapped.has(buffer);
  }

  get metadata(): DeltaMetadata {
    return this.#layout.metadata;
  }

  /** Rows that the expert adds to the embedding. */
  get addedRows(): number {
    return this.#layout.addedRows;
  }

  /**
   * Checks that the file was made for the base with this digest and these parameters.
   *
   * @throws Problem naming the digests, or the tensor that doesn't fit.
   */
  checkFits(base: Digest, specs: readonly ParamSpec[]): void {
    checkDeltaFits(this.#layout, base, specs, this.where);
  }

  /** Each parameter's delta by checkpoint stem, in file order. Arrays are views of the file's bytes where alignment allows. */
  *params(): Generator<{ stem: string; delta: ParamDelta }> {
    for (const { stem, read } of this.parts()) yield { stem, delta: read() };
  }

  /** The same before all bytes are there: each parameter with its arrays' lengths and where its bytes end, to be read once they have come so far. */
  *parts(): Generator<DeltaPart> {
    for (const layout of this.#layout.params)
      yield {
        stem: layout.stem,
        lengths: lengthsOf(layout),
        end: endOf(layout),
        read: () => this.#param(layout),
      };
  }

  #param({ planes, exact, exactScale, added }: ParamDeltaLayout): ParamDelta {
    const signPlanes = planes.map(({ sign, rowScale, colScale }): SignPlane => {
      const plane = { signs: this.#words(sign), rowScale: this.#floats(rowScale) };
      return colScale === undefined ? plane : { ...plane, colScale: this.#floats(colScale) };
    });
    return {
      planes: signPlanes,
      ...(exact === undefined ? {} : { exact: this.#exact(exact, exactScale) }),
      ...(added === undefined ? {} : { added: this.#halves(added) }),
    };
  }

  #slice(tensor: TensorInfo): Uint8Array {
    const slice = this.#dataOf(tensor);
    // Other writers may pad the header to 8 bytes or not at all.
    return slice.byteOffset % 4 === 0 ? slice : slice.slice();
  }

  #words(tensor: TensorInfo): Uint32Array {
    const slice = this.#slice(tensor);
    return new Uint32Array(slice.buffer, slice.byteOffset, slice.byteLength / 4);
  }

  #floats(tensor: TensorInfo): Float32Array {
    const slice = this.#slice(tensor);
    const values = new Float32Array(slice.buffer, slice.byteOffset, slice.byteLength / 4);
    // A loop: a call for each value would take as long as the copy to the device.
    for (let i = 0; i < values.length; i++) {
      if (!Number.isFinite(values[i]))
        throw new Problem(`${this.where}: tensor ${tensor.name} holds a value that is not finite`);
    }
    return values;
  }

  /** As BF16, which is what devices hold. */
  #exact(tensor: TensorInfo, scaleTensor: TensorInfo | undefined): Uint16Array {
    if (scaleTensor === undefined) return this.#halves(tensor);
    const { buffer, byteOffset, byteLength } = this.#slice(tensor);
    return widenRows(new Int8Array(buffer, byteOffset, byteLength), this.#floats(scaleTensor));
  }

  #halves(tensor: TensorInfo): Uint16Array {
    const slice = this.#slice(tensor);
    return new Uint16Array(slice.buffer, slice.byteOffset, slice.byteLength / 2);
  }
}

/** INT8 rows (rows, columns) with a scale each, as BF16. */
export function widenRows(values: Int8Array, scale: Float32Array): Uint16Array {
  const columns = values.length / scale.length;
  return Uint16Array.from(values, (value, i) => floatToBrain(value * (scale[Math.floor(i / columns)] ?? 0)));
}

/** Opens a delta file held in memory. @throws Problem when it isn't one, or not whole. */
export function openDelta(given: Uint8Array, where: string): DeltaFile {
  // Typed views need tensors at multiples of four bytes; a caller's slice of a larger buffer may begin anywhere.
  const bytes = given.byteOffset % 4 === 0 ? given : given.slice();
  const dataOf = ({ offset, bytes: length }: TensorInfo) => bytes.subarray(offset, offset + length);
  return new DeltaFile(where, parseSafetensors(bytes, where), bytes.byteLength, dataOf);
}

/** Opens a delta file on disk, of any size: its tensors are mapped one by one, and read when they are touched. @throws Problem when it isn't one, or not whole. */
export function openMappedDelta(path: string): DeltaFile {
  const header = readHeader(path);
  const data = new Map(mapTensors(path).map((tensor) => [tensor.info.name, tensor.data]));
  const mapped = new Set([...data.values()].map(({ buffer }) => buffer));
  const dataOf = ({ name }: TensorInfo) => data.get(name) ?? new Uint8Array();
  return new DeltaFile(path, header, statSync(path).size, dataOf, mapped);
}

/**
 * Opens a delta file whose bytes are still coming in: `bytes` is as long as the whole file, `until` waits until the first so many are there.
 *
 * @throws Problem when its header is none; what `until` throws.
 */
export async function openArrivingDelta(
  bytes: Uint8Array,
  where: string,
  until: (end: number) => Promise<void> | undefined,
): Promise<DeltaFile> {
  await until(Math.min(8, bytes.byteLength));
  await until(8 + headerLength(bytes.subarray(0, 8), bytes.byteLength, where));
  return openDelta(bytes, where);
}

function lengthsOf({ planes, exact, added }: ParamDeltaLayout): ParamDeltaLengths {
  const count = ({ shape }: TensorInfo) => ({ length: shape.reduce((product, size) => product * size, 1) });
  return {
    planes: planes.map(({ sign, rowScale, colScale }) => ({
      signs: count(sign),
      rowScale: count(rowScale),
      ...(colScale === undefined ? {} : { colScale: count(colScale) }),
    })),
    ...(exact === undefined ? {} : { exact: count(exact) }),
    ...(added === undefined ? {} : { added: count(added) }),
  };
}

function endOf({ planes, exact, exactScale, added }: ParamDeltaLayout): number {
  const tensors = [
    ...planes.flatMap(({ sign, rowScale, colScale }) => [sign, rowScale, colScale]),
    exact,
    exactScale,
    added,
  ];
  return Math.max(...tensors.map((tensor) => (tensor === undefined ? 0 : tensor.offset + tensor.bytes)));
}
