/**
 * Delta files for tests, whole and small.
 */
import { writeFile } from 'node:fs/promises';
import { DELTA_FORMAT, encodeHeader } from '@signpost/contracts';

/** Writes a well-formed delta whose only content is `value`; returns its path. */
export async function writeDelta(path: string, value: number, bytes = 2): Promise<string> {
  const digest = 'b'.repeat(64);
  const header = encodeHeader([{ name: 'model.norm.delta', dtype: 'BF16', shape: [bytes / 2] }], {
    format: DELTA_FORMAT,
    base: digest,
    expert: 'test',
    method: 'sign',
    parameters: '{}',
    errors: '{}',
    source: digest,
    packer: 'test',
  });
  await writeFile(path, Buffer.concat([header, new Uint8Array(bytes).fill(value)]));
  return path;
}
