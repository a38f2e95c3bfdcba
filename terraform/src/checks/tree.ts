/**
 * All of Terraform that is here, parsed once.
 */
import { readdir } from 'node:fs/promises';
import path from 'node:path';
import { type Module, readModule } from './module.ts';

export const TERRAFORM_FOLDER = path.resolve(import.meta.dirname, '../..');

let reading: Promise<readonly Module[]> | undefined;

/** `modules/*` and `examples/*`. */
export function readTree(): Promise<readonly Module[]> {
  reading ??= read();
  return reading;
}

async function read(): Promise<readonly Module[]> {
  const names = await Promise.all(
    ['modules', 'examples'].map(async (group) =>
      (await readdir(path.join(TERRAFORM_FOLDER, group), { withFileTypes: true }))
        .filter((entry) => entry.isDirectory())
        .map((entry) => `${group}/${entry.name}`),
    ),
  );
  return Promise.all(names.flat().map((name) => readModule(path.join(TERRAFORM_FOLDER, name), name)));
}
