import { readFile } from 'node:fs/promises';
import { Problem } from '@signpost/contracts';
import { parse } from 'yaml';

/** Reads a YAML file. @throws Problem when it is missing or not YAML. */
export async function readYaml(path: string): Promise<unknown> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (cause) {
    throw new Problem(`${path} can't be read: ${cause instanceof Error ? cause.message : cause}`, { cause });
  }
  try {
    return parse(text);
  } catch (cause) {
    throw new Problem(`${path} is not YAML: ${cause instanceof Error ? cause.message : cause}`, { cause });
  }
}
