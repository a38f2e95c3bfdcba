/**
 * Base parameters as kernels read them (shaders/matrix.wgsl): each row in whole groups of 32 columns, zeros beyond the last; quantised ones with an F16
 * scale a group behind all values. The values are those of ../quantize.ts.
 */
import type { ParamDtype, ParamFormat } from '../device.ts';
import { brainToFloat, floatToHalf, halfToFloat } from '../float.ts';
import { quantizedSteps } from '../quantize.ts';

export const GROUP_COLUMNS = 32;

/** How the checkpoint has a parameter, and how it is to be held. */
export interface ParamStorage {
  readonly dtype: ParamDtype;
  readonly format: ParamFormat;
}

/** `FORMAT` of the kernels. */
export type MatrixFormat = 'bf16' | 'f16' | 'f32' | 'q8' | 'q4';
export const FORMAT_CODE = { bf16: 0, f16: 1, f32: 2, q8: 3, q4: 4 } as const satisfies Record<MatrixFormat, number>;
const GROUP_BYTES = { bf16: 64, f16: 64, f32: 128, q8: 32, q4: 16 } as const satisfies Record<MatrixFormat, number>;
const STORED = { BF16: 'bf16', F16: 'f16', F32: 'f32' } as const;

export function matrixFormat({ dtype, format }: ParamStorage): MatrixFormat {
  return format === 'stored' ? STORED[dtype] : format;
}

export function groupsOf(columns: number): number {
  return Math.ceil(columns / GROUP_COLUMNS);
}

/** Bytes of `rows` rows, and where among them the scales begin: whole vec4s both. */
export function matrixBytes(rows: number, columns: number, format: MatrixFormat): { scales: number; bytes: number } {
  const groups = rows * groupsOf(columns);
  const scales = groups * GROUP_BYTES[format];
  const isQuantized = format === 'q8' || format === 'q4';
  return { scales, bytes: scales + (isQuantized ? Math.ceil((groups * 2) / 16) * 16 : 0) };
}

/** Packs rows into `target`, of `matrixBytes` and all zero. `data` has them as the checkpoint does. */
export function packMatrix(target: Uint8Array, data: Uint8Array, columns: number, storage: ParamStorage): void {
  const format = matrixFormat(storage);
  if (format === 'q8' || format === 'q4') packQuantized(target, decodeValues(storage.dtype, data), columns, format);
  else packStored(target, data, columns, format);
}

function packStored(target: Uint8Array, data: Uint8Array, columns: number, format: 'bf16' | 'f16' | 'f32'): void {
  const rowBytes = columns * (format === 'f32' ? 4 : 2);
  const packedBytes = groupsOf(columns) * GROUP_BYTES[format];
  if (rowBytes === packedBytes) {
    target.set(data);
    return;
  }
  for (let row = 0; row * rowBytes < data.byteLength; row++)
    target.set(data.subarray(row * rowBytes, (row + 1) * rowBytes), row * packedBytes);
}

function packQuantized(target: Uint8Array, values: Float32Array, columns: number, format: 'q8' | 'q4'): void {
  const rows = values.length / columns;
  const groups = groupsOf(columns);
  const scales = new DataView(target.buffer, target.byteOffset + matrixBytes(rows, columns, format).scales);
  const steps = new Int8Array(GROUP_COLUMNS);
  let group = 0;
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column += GROUP_COLUMNS, group++) {
      const end = Math.min(column + GROUP_COLUMNS, columns);
      steps.fill(0);
      const scale = quantizedSteps(values.subarray(row * columns + column, row * columns + end), format, steps);
      scales.setUint16(group * 2, floatToHalf(scale), true);
      const at = (row * groups + column / GROUP_COLUMNS) * GROUP_BYTES[format];
      if (format === 'q8') {
        for (let i = 0; i < GROUP_COLUMNS; i++) target[at + i] = steps[i] ?? 0;
      } else {
        // Eight to a word, the first in the lowest bits.
        for (let i = 0; i < GROUP_COLUMNS; i += 2)
          target[at + i / 2] = ((steps[i] ?? 0) + 8) | (((steps[i + 1] ?? 0) + 8) << 4);
      }
    }
  }
}

/** Values of a parameter in F32. */
export function decodeValues(dtype: ParamDtype, data: Uint8Array): Float32Array {
  // Writers other than ours may leave tensors at odd offsets.
  const isAligned = data.byteOffset % 4 === 0;
  const { buffer, byteOffset, byteLength } = isAligned ? data : data.slice();
  switch (dtype) {
    case 'F32':
      return new Float32Array(buffer, byteOffset, byteLength / 4);
    case 'BF16':
      return Float32Array.from(new Uint16Array(buffer, byteOffset, byteLength / 2), brainToFloat);
    case 'F16':
      return Float32Array.from(new Uint16Array(buffer, byteOffset, byteLength / 2), halfToFloat);
    default:
      return dtype satisfies never;
  }
}
