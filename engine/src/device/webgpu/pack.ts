/**
 * Base parameters as kernels read them (shaders/matrix.wgsl): each row in whole groups of 32 columns, zeros beyond the last; quantised ones with an F16
 * scale a group behind all values. The values are those of ../quantize.ts.
 */
import { groupPack } from '@signpost/kernels';
import type { ParamDtype, ParamFormat } from '../device.ts';
import { brainToFloat, halfToFloat } from '../float.ts';

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
  if (format === 'q8' || format === 'q4') packQuantized(target, data, columns, storage.dtype, format);
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

/** By all of the kernels' threads. */
function packQuantized(
  target: Uint8Array,
  data: Uint8Array,
  columns: number,
  dtype: ParamDtype,
  format: 'q8' | 'q4',
): void {
  const rows = data.byteLength / (dtype === 'F32' ? 4 : 2) / columns;
  const { scales } = matrixBytes(rows, columns, format);
  const groups = rows * groupsOf(columns);
  groupPack(
    {
      values: target.subarray(0, groups * GROUP_BYTES[format]),
      scales: new Uint16Array(target.buffer, target.byteOffset + scales, groups),
    },
    format,
    { dtype, data: aligned(data) },
    columns,
  );
}

/** Values of a parameter in F32. */
export function decodeValues(dtype: ParamDtype, data: Uint8Array): Float32Array {
  const { buffer, byteOffset, byteLength } = aligned(data);
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

/** Writers other than ours may leave tensors at odd offsets. */
function aligned(data: Uint8Array): Uint8Array {
  return data.byteOffset % 4 === 0 ? data : data.slice();
}
