import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { expect, it } from 'vitest';
import { checkFormat } from './format.ts';
import { TERRAFORM_FOLDER } from './tree.ts';

it('finds modules, examples and tests formatted', async () => {
  const files = (await Promise.all(['modules', 'examples', 'stand-ins'].map(filesIn))).flat();
  expect(files.length).toBeGreaterThan(30);
  for (const file of files)
    expect(checkFormat(file, await readFile(path.join(TERRAFORM_FOLDER, file), 'utf8'))).toEqual([]);
});

async function filesIn(folder: string): Promise<string[]> {
  const all = await readdir(path.join(TERRAFORM_FOLDER, folder), { recursive: true });
  return all
    .filter((file) => /\.(tf|tftest\.hcl)$/.test(file) && !file.includes('.terraform/'))
    .map((file) => path.join(folder, file));
}

it.each([
  ['a = 1', 'must end in one newline'],
  ['a = 1\n\n', 'must end in one newline'],
  ['a = 1 \n', 'ends in spaces'],
  ['locals {\n\ta = 1\n}\n', 'has a tab'],
  ['locals {\n    a = 1\n}\n', 'is indented by 4 spaces, not 2'],
  ['locals {\n  a = jsonencode({\n      b = 1\n  })\n}\n', 'is indented by 6 spaces, not 4'],
  ['locals {\n  a = 1\n  bcd = 2\n}\n', 'the "=" of a isn\'t right'],
  ['locals {\n  a  = 1\n  b  = 2\n}\n', 'the "=" of a isn\'t right'],
])('finds %j not', (text, expected) => {
  expect(
    checkFormat('a.tf', text)
      .map(({ problem }) => problem)
      .join('\n'),
  ).toContain(expected);
});

it('takes what stands apart for itself', () => {
  expect(
    checkFormat('a.tf', 'locals {\n  a = 1\n\n  bcd = 2\n  # Apart.\n  e = [\n    "}",\n  ]\n  f = "x = {"\n}\n'),
  ).toEqual([]);
});
