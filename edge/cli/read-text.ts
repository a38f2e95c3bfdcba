/**
 * A file that a command names.
 */
import { readFile } from 'node:fs/promises';
import { Problem } from '@signpost/contracts';

/** @throws Problem naming the file. */
export async function readText(file: string): Promise<string> {
  try {
    return await readFile(file, 'utf8');
  } catch (cause) {
    throw new Problem(`${file}: ${cause instanceof Error ? cause.message : cause}`, { cause });
  }
}
