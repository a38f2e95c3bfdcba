import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { expect, it } from 'vitest';
import { parseModule } from '../checks/module.ts';
import { readTree, TERRAFORM_FOLDER } from '../checks/tree.ts';
import { costTables, readPrices } from './costs.ts';
import { readPages } from './pages.ts';
import { withTables } from './tables.ts';

it("has the tables of each module's inputs and outputs, and of what examples cost, as they are now", async () => {
  const pages = await readPages();
  expect(pages).toHaveLength(5);
  for (const { file, is, shouldBe } of pages)
    expect(is, `${path.relative(TERRAFORM_FOLDER, file)}: npm run docs -w @signpost/terraform`).toBe(shouldBe);
});

it('notices an input that came, and a price that changed', async () => {
  const edge = (await readTree()).find(({ name }) => name === 'modules/edge');
  if (edge === undefined) throw new Error('there is no modules/edge');
  const readme = await readFile(path.join(edge.folder, 'README.md'), 'utf8');
  const { variables } = await parseModule('more', '', [
    [
      'a.tf',
      'variable "more" {\n  description = "One | more."\n  type = list(object({ a = string }))\n  default = [{ a = "b" }]\n}',
    ],
  ]);
  expect(withTables(readme, { ...edge, variables: [...edge.variables, ...variables] })).toContain(
    '| `more`                  | One \\| more.',
  );
  const prices = await readPrices();
  const dearer = { ...prices, prices: { ...prices.prices, 'aws.nat.hour': { usd: 1, what: 'a NAT gateway' } } };
  expect(costTables(dearer)).not.toBe(costTables(prices));
  expect(costTables(dearer)).toContain('730 × 1 ');
});

it('says where a page has no place for them', () => {
  const module = {
    name: 'modules/x',
    folder: '',
    resources: [],
    variables: [],
    outputs: [],
    locals: [],
    calls: [],
    settings: [],
    providers: [],
  };
  expect(() => withTables('# Nothing', module)).toThrow('modules/x/README.md has no place for its tables');
});
