/**
 * A checkpoint's way from the disk, begun before anybody can make use of it. Imports next to nothing: it is called while the modules that do are still being read.
 */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { readAhead } from '@signpost/kernels';

/** Has the system read a folder's weights, beside whatever else is done. A hint: what is wrong with the folder is for others to say. */
export function readCheckpointAhead(dir: string): void {
  readAhead(
    filesOf(dir)
      .filter((name) => name.endsWith('.safetensors'))
      .sort()
      .map((name) => join(dir, name)),
  );
}

function filesOf(dir: string): string[] {
  try {
    return readdirSync(dir);
  } catch {
    return [];
  }
}
