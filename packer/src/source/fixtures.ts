/**
 * What tests of checkpoints share: golden folders, and tensors in and out of files.
 */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { encodeHeader, type TensorSpec } from '@signpost/contracts';
import { type CheckpointTensor, mapTensors } from '@signpost/engine';
import { encodeFloats, rowReader, rowShape } from './floats.ts';

export const GOLDEN = join(import.meta.dirname, '../../../test/golden');

/** A tensor's values as float32. */
export function valuesOf(tensor: CheckpointTensor | undefined): Float32Array {
  if (tensor === undefined) throw new Error('no such tensor');
  const { dtype, shape } = tensor.info;
  if (dtype !== 'BF16' && dtype !== 'F16' && dtype !== 'F32') throw new Error(`${tensor.info.name} is ${dtype}`);
  return rowReader(tensor, dtype)(0, rowShape(shape).rows);
}

/** A file's tensors by name, as float32. */
export function readTensors(path: string): Map<string, Float32Array> {
  return new Map(mapTensors(path).map((tensor) => [tensor.info.name, valuesOf(tensor)]));
}

/** Writes F32 tensors as a safetensors file. */
export async function writeTensors(
  path: string,
  tensors: Readonly<Record<string, { shape: readonly number[]; values: Float32Array }>>,
): Promise<void> {
  const specs = Object.entries(tensors).map(([name, { shape }]): TensorSpec => ({ name, dtype: 'F32', shape }));
  const data = Object.values(tensors).map(({ values }) => encodeFloats('F32', values));
  await writeFile(path, Buffer.concat([encodeHeader(specs, {}), ...data]));
}
