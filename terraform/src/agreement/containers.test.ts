/**
 * What Terraform tells containers is what they take.
 */
import { execFile } from 'node:child_process';
import path from 'node:path';
import { promisify } from 'node:util';
import { expect, it } from 'vitest';
import type { Json, JsonObject } from '../checks/hcl.ts';
import { blocks, isObject, type Module } from '../checks/module.ts';
import { readTree, TERRAFORM_FOLDER } from '../checks/tree.ts';

/** Read from the environment alone: no flag shows them. */
const SECRETS = ['SIGNPOST_REGION_SECRET', 'SIGNPOST_METRICS_KEY', 'SIGNPOST_ADMIN_KEY'];
/** Of the AWS SDK, cloudflared and the collector. */
const OTHERS = /^(AWS_|TUNNEL_TOKEN$|AOT_CONFIG_CONTENT$)/;

/** Variables that a command says it reads. */
async function variablesOf(command: string): Promise<ReadonlySet<string>> {
  const file = path.join(TERRAFORM_FOLDER, '../gpu-backend/bin', `${command}.mjs`);
  const { stdout } = await promisify(execFile)(process.execPath, [file, '--help']);
  const named = stdout.replace(/\s+/g, ' ').matchAll(/env: (?<name>SIGNPOST_[A-Z_]+)/g);
  return new Set([...SECRETS, ...[...named].map(({ groups }) => groups?.name ?? '')]);
}

async function moduleNamed(name: string): Promise<Module> {
  const module = (await readTree()).find((module) => module.name === name);
  if (module === undefined) throw new Error(`there is no ${name}`);
  return module;
}

const local = (module: Module, name: string): Json => module.locals.find((local) => local.name === name)?.value ?? null;

/** Names of variables in a value: `SIGNPOST_BASE`, wherever they stand. */
const variablesIn = (value: Json): string[] => [
  ...new Set(JSON.stringify(value).match(/\b(SIGNPOST|AWS|TUNNEL|AOT)_[A-Z0-9_]+/g)),
];

it('a region is started with variables that signpost-backend reads', async () => {
  const known = await variablesOf('signpost-backend');
  const module = await moduleNamed('modules/region-gpu');
  const given = ['environment', 'secret_names', 'secrets_of'].flatMap((name) => variablesIn(local(module, name)));
  expect(given).toEqual(
    expect.arrayContaining(['SIGNPOST_BASE', 'SIGNPOST_REGION_SECRET', 'SIGNPOST_EDGE_URL', 'SIGNPOST_DRAIN_LIMIT']),
  );
  expect(given.filter((name) => !known.has(name) && !OTHERS.test(name))).toEqual([]);
});

it('a function is started with variables that signpost-lambda reads', async () => {
  const known = await variablesOf('signpost-lambda');
  const functions = (await moduleNamed('modules/lambda-fallback')).resources.filter(
    ({ type }) => type === 'aws_lambda_function',
  );
  const given = functions.flatMap(({ body }) =>
    blocks(body.environment).flatMap((environment: JsonObject) => variablesIn(environment)),
  );
  expect(given).toEqual(
    expect.arrayContaining(['SIGNPOST_BASE', 'SIGNPOST_STORE', 'SIGNPOST_REGION', 'SIGNPOST_REGION_SECRET']),
  );
  expect(given.filter((name) => !known.has(name))).toEqual([]);
});

it('scaling and alarms look at metrics that a region has', async () => {
  const module = await moduleNamed('modules/region-gpu');
  const scaled = local(module, 'metrics');
  const names = local(module, 'metric_names');
  expect(isObject(scaled) && Object.values(scaled).every((name) => Array.isArray(names) && names.includes(name))).toBe(
    true,
  );
  // As gpu-backend/src/server tells them.
  const { stdout } = await promisify(execFile)('grep', [
    '-rhoE',
    '(vllm:num_requests_(running|waiting)|signpost_engine_up)',
    path.join(TERRAFORM_FOLDER, '../gpu-backend/src/server'),
  ]);
  expect([...new Set(stdout.trim().split('\n'))].sort()).toEqual(Array.isArray(names) ? [...names].sort() : []);
});
