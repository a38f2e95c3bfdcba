import { execFile } from 'node:child_process';
import { readFile, rm, stat } from 'node:fs/promises';
import { createRequire } from 'node:module';
import path from 'node:path';
import { promisify } from 'node:util';
import { Problem } from '@signpost/contracts';
import { parse } from 'smol-toml';
import { afterAll, describe, expect, it } from 'vitest';
import { wranglerConfig } from './config.ts';
import { parseOutputs } from './outputs.ts';

const REPOSITORY = path.resolve(import.meta.dirname, '../../..');
const TOML = await readFile(path.join(REPOSITORY, 'wrangler.toml'), 'utf8');
// Beside wrangler.toml, since paths in it are from there; a name of its own, so that no real one is lost.
const OUT = path.join(REPOSITORY, `wrangler.${process.pid}.tmp.json`);
afterAll(() => rm(OUT, { force: true }));

const WRANGLER = {
  name: 'acme-llm',
  account_id: '0123456789abcdef0123456789abcdef',
  workers_dev: false,
  config_namespace: 'fedcba9876543210fedcba9876543210',
  artifacts_bucket: 'acme-llm-artifacts',
  shadows_queue: 'acme-llm-shadows',
  analytics_dataset: 'acme_decisions',
  variables: { FIRST_TOKEN_TIMEOUT_MS: '120000' },
  regions: [{ name: 'eu', url: 'https://eu-llm.example.com', continent: 'EU' }],
};
const SECRETS = { REGION_SECRET: 'a-secret-of-the-fleet-that-is-long-enough', WAKE_KEY_EU: 'a-key' };
const outputs = (wrangler: unknown = WRANGLER) =>
  JSON.stringify({
    url: { sensitive: false, type: 'string', value: 'https://llm.example.com' },
    wrangler: { sensitive: false, type: ['object', {}], value: wrangler },
    wrangler_secrets: { sensitive: true, type: ['map', 'string'], value: SECRETS },
  });

function run(command: string, input: string): Promise<{ readonly stdout: string; readonly stderr: string }> {
  const args = [path.join(REPOSITORY, 'terraform/bin/wrangler-config.mjs'), ...command.split(' ')];
  const running = promisify(execFile)(process.execPath, args);
  running.child.stdin?.end(input);
  return running;
}

describe('wrangler-config', () => {
  it('puts what Terraform made in the place of what stands for it, and leaves the rest', () => {
    const before = parse(TOML);
    const after = wranglerConfig(TOML, parseOutputs(outputs()).wrangler);
    expect(after).toEqual({
      ...before,
      name: 'acme-llm',
      account_id: WRANGLER.account_id,
      workers_dev: false,
      kv_namespaces: [{ binding: 'CONFIG', id: WRANGLER.config_namespace }],
      r2_buckets: [{ binding: 'ARTIFACTS', bucket_name: 'acme-llm-artifacts' }],
      queues: {
        producers: [{ binding: 'SHADOWS', queue: 'acme-llm-shadows' }],
        consumers: [{ ...consumer(before), queue: 'acme-llm-shadows' }],
      },
      analytics_engine_datasets: [{ binding: 'ANALYTICS', dataset: 'acme_decisions' }],
      vars: {
        ...(before.vars as object),
        FIRST_TOKEN_TIMEOUT_MS: '120000',
        REGIONS: JSON.stringify(WRANGLER.regions),
      },
    });
  });

  it('writes a configuration that wrangler builds and would deploy', async () => {
    await run(`write --out ${OUT}`, outputs());
    const wrangler = createRequire(import.meta.url).resolve('wrangler/package.json');
    const { stdout } = await promisify(execFile)(
      process.execPath,
      [path.join(path.dirname(wrangler), 'bin/wrangler.js'), 'deploy', '--dry-run', '--config', OUT],
      {
        cwd: REPOSITORY,
        env: {
          ...process.env,
          CI: '1',
          NO_COLOR: '1',
          WRANGLER_SEND_METRICS: 'false',
          WRANGLER_HIDE_BANNER: 'true',
          WRANGLER_LOG_PATH: `${OUT}.log`,
        },
      },
    ).finally(() => rm(`${OUT}.log`, { force: true }));
    for (const name of [
      'fedcba9876543210fedcba9876543210',
      'acme-llm-artifacts',
      'acme-llm-shadows',
      'acme_decisions',
      'Durable Object',
    ])
      expect(stdout).toContain(name);
  });

  it('prints secrets for wrangler, and the file it writes holds none', async () => {
    expect(JSON.parse((await run('secrets', outputs())).stdout)).toEqual(SECRETS);
    const { stdout, stderr } = await run(`write --out ${OUT}`, outputs());
    for (const secret of Object.values(SECRETS))
      expect(`${stdout}${stderr}${await readFile(OUT, 'utf8')}`).not.toContain(secret);
    expect((await stat(OUT)).size).toBeGreaterThan(0);
  });

  it.each([
    ['no JSON', 'Error: no state', 'the outputs are no JSON'],
    ['outputs of something else', '{}', 'wrangler'],
    ['no region', outputs({ ...WRANGLER, regions: [] }), 'needs at least one region'],
    ['an id that is missing', outputs({ ...WRANGLER, config_namespace: undefined }), 'config_namespace'],
  ])('says what is wrong with %s', (_, text, expected) => {
    expect(() => parseOutputs(text)).toThrow(Problem);
    expect(() => parseOutputs(text)).toThrow(expected);
  });

  it('says which binding wrangler.toml lacks', () => {
    const { wrangler } = parseOutputs(outputs());
    expect(() => wranglerConfig(TOML.replace('binding = "CONFIG"', 'binding = "RULES"'), wrangler)).toThrow(
      'wrangler.toml has no binding CONFIG',
    );
  });
});

function consumer(toml: unknown): object {
  return (toml as { readonly queues: { readonly consumers: readonly object[] } }).queues.consumers[0] ?? {};
}
