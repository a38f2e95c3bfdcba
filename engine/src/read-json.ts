import { readFile } from 'node:fs/promises';
import { Problem } from '@signpost/contracts';

/** Reads a JSON file. @throws Problem when it is missing or not JSON. */
export async function readJson(path: string): Promise<unknown> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (cause) {
    throw new Problem(`${path} can't be read: ${cause instanceof Error ? cause.message : cause}`, { cause });
  }
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new Problem(`${path} is not JSON: ${cause instanceof Error ? cause.message : cause}`, { cause });
  }
}
