import { readdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { regionsSchema, secretsOf } from '@signpost/edge/regions';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { TERRAFORM_FOLDER } from '../checks/tree.ts';
import { wranglerConfig } from '../wrangler/config.ts';
import { parseOutputs } from '../wrangler/outputs.ts';
import { findTool, TerraformCopy } from './terraform.ts';

const WRANGLER_TOML = await readFile(path.join(TERRAFORM_FOLDER, '../wrangler.toml'), 'utf8');
const tool = await findTool();
/** Outputs by example. */
const fleets = new Map<string, unknown>();

const eventSchema = z.looseObject({
  type: z.string(),
  test_summary: z.unknown().optional(),
  test_state: z
    .looseObject({
      outputs: z.unknown().optional(),
      values: z.looseObject({ outputs: z.unknown().optional() }).optional(),
    })
    .optional(),
});
type Event = z.infer<typeof eventSchema>;

function eventOf(line: string): Event[] {
  return line.startsWith('{') ? [eventSchema.parse(JSON.parse(line))] : [];
}

/** As `terraform output -json` would have them after the test's apply. */
function outputsOf(events: readonly Event[]): unknown {
  const state = events.find(({ type }) => type === 'test_state')?.test_state;
  // OpenTofu has them a level deeper.
  return state?.outputs ?? state?.values?.outputs;
}

const roots = (
  await Promise.all(
    ['examples', 'modules'].map(async (group) =>
      (await readdir(path.join(TERRAFORM_FOLDER, group))).map((name) => `${group}/${name}`),
    ),
  )
).flat();

// Neither can be had by a package of npm's; where one is installed, it runs.
describe.skipIf(tool === undefined)('with a real terraform or tofu', () => {
  let copy: TerraformCopy;
  beforeAll(async () => {
    copy = await TerraformCopy.make(tool ?? '');
  });
  afterAll(() => copy?.remove());

  it('everything is formatted', async () => {
    expect(await copy.run('.', 'fmt', '-check', '-diff', '-recursive')).toEqual({ code: 0, output: '' });
  });

  it.each(roots)('%s is valid, and its tests pass', async (root) => {
    const init = await copy.run(root, 'init', '-backend=false', '-no-color');
    expect(init.code, init.output).toBe(0);
    const validate = await copy.run(root, 'validate', '-no-color');
    expect(validate.code, validate.output).toBe(0);
    const test = await copy.run(root, 'test', '-json', '-verbose', '-no-color');
    expect(test.code, test.output).toBe(0);
    const events = test.output.split('\n').flatMap(eventOf);
    expect(events.find(({ type }) => type === 'test_summary')?.test_summary).toMatchObject({ status: 'pass' });
    if (root.startsWith('examples/')) fleets.set(root, outputsOf(events));
  });

  it.each([
    ['examples/one-region', ['eu']],
    ['examples/lambda-only', ['eu']],
  ])('what %s makes is what the Worker takes', (root, names) => {
    const { wrangler, secrets } = parseOutputs(JSON.stringify(fleets.get(root)));
    const { vars } = z
      .object({ vars: z.object({ REGIONS: z.string() }) })
      .parse(wranglerConfig(WRANGLER_TOML, wrangler));
    const regions = regionsSchema.parse(JSON.parse(vars.REGIONS));
    expect(regions.map(({ name }) => name)).toEqual(names);
    // Each secret that a region names, and those that every fleet has.
    expect(Object.keys(secrets).sort()).toEqual(
      [...regions.flatMap(secretsOf), 'REGION_SECRET', 'ADMIN_KEY_HASHES', 'METRICS_KEY_HASHES'].sort(),
    );
  });

  it("what the providers don't know is found", async () => {
    const folder = path.join(copy.folder, 'modules/edge');
    await writeFile(
      path.join(folder, 'wrong.tf'),
      'resource "cloudflare_queue" "wrong" {\n  queue_name = ["a"]\n  retention  = 1\n}\n',
    );
    const { code, output } = await copy.run('modules/edge', 'validate', '-no-color');
    expect(code).toBe(1);
    expect(output).toContain('The argument "account_id" is required');
    expect(output).toContain('An argument named "retention" is not expected here');
    expect(output).toContain('attribute "queue_name": string required');
    expect((await copy.run('.', 'fmt', '-check', '-recursive')).code).toBe(0);
    await writeFile(path.join(folder, 'wrong.tf'), 'locals {\na=1\n}\n');
    expect((await copy.run('.', 'fmt', '-check', '-recursive')).code).not.toBe(0);
  });
});
