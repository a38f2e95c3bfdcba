/**
 * The pages that have parts written by a program, as they should be.
 */
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { readTree, TERRAFORM_FOLDER } from '../checks/tree.ts';
import { costTables, readPrices } from './costs.ts';
import { replaced } from './markdown.ts';
import { withTables } from './tables.ts';

export interface Page {
  readonly file: string;
  readonly is: string;
  readonly shouldBe: string;
}

export async function readPages(): Promise<readonly Page[]> {
  const modules = (await readTree()).filter(({ name }) => name.startsWith('modules/'));
  const file = path.join(TERRAFORM_FOLDER, 'README.md');
  const readme = await readFile(file, 'utf8');
  const costs = costTables(await readPrices());
  return [
    { file, is: readme, shouldBe: replaced(readme, 'costs', costs, 'terraform/README.md') },
    ...(await Promise.all(
      modules.map(async (module) => {
        const file = path.join(module.folder, 'README.md');
        const is = await readFile(file, 'utf8');
        return { file, is, shouldBe: withTables(is, module) };
      }),
    )),
  ];
}
