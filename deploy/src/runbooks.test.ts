/**
 * The runbooks' commands: blocks marked `sh` are run as they stand, against a store and an edge; of the others, commands and options must be there.
 */
import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { type EdgeHandle, startEdge } from '@signpost/edge';
import { publish } from '@signpost/packer';
import { openStore, readCatalogue } from '@signpost/store';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { writeDelta } from '../../packer/src/catalogue/testing.ts';

const ROOT = join(import.meta.dirname, '../..');
const ADMIN_KEY = 'an-administrators-key';
const rulesTo = (model: string) => `version: 1\nrules:\n  - { name: rest, then: { model: ${model} } }\n`;
/** What `npx` would find, without the second that it takes to look. */
const NPX = `npx() { local tool=$1; shift; case $tool in
  signpost) node '${ROOT}/edge/bin/signpost.mjs' "$@" ;;
  signpost-packer) node '${ROOT}/packer/bin/signpost-packer.mjs' "$@" ;;
  *) echo "no $tool" >&2; return 1 ;;
esac; }`;

let dir: string;
let runbook: string;
let edge: EdgeHandle;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'signpost-runbooks-'));
  runbook = await readFile(join(ROOT, 'docs/operations.md'), 'utf8');
  edge = await startEdge({
    regions: [{ name: 'near', url: 'http://127.0.0.1:9' }],
    adminKeys: { [ADMIN_KEY]: 'ada' },
    routing: rulesTo('base'),
    onLog: () => {},
  });
});
afterAll(async () => {
  await edge?.close();
  await rm(dir, { recursive: true });
});

/** The blocks to run under a heading. */
function blocks(heading: string): string[] {
  const section = runbook.split(/^## /m).find((part) => part.startsWith(`${heading}\n`)) ?? '';
  const found = [...section.matchAll(/^```sh\n([\s\S]*?)^```$/gm)].map(([, body = '']) => body);
  expect(found.length, heading).toBeGreaterThan(0);
  return found;
}

async function run(script: string, env: Record<string, string> = {}): Promise<string> {
  const { stdout } = await promisify(execFile)('bash', ['-euo', 'pipefail', '-c', `${NPX}\n${script}`], {
    env: { ...process.env, SIGNPOST_EDGE: edge.url, SIGNPOST_ADMIN_KEY: ADMIN_KEY, ...env },
  });
  return stdout;
}

it('a bad expert is taken back', async () => {
  const store = openStore(join(dir, 'store'));
  const good = await publish(store, await writeDelta(join(dir, 'good'), 1), { name: 'law' });
  await publish(store, await writeDelta(join(dir, 'bad'), 2), { name: 'law' });
  const [takeBack = ''] = blocks('A bad expert');
  expect(await run(takeBack, { STORE: store.url })).toContain(`law@stable is now ${good.version.digest}`);
  const { catalogue } = await readCatalogue(store);
  expect(catalogue.experts.law?.channels.stable).toEqual([{ digest: good.version.digest, weight: 1 }]);
});

it('a bad rule set is taken back', async () => {
  const path = join(dir, 'routing.yaml');
  await writeFile(path, rulesTo('law'));
  await run(`npx signpost config put ${path}`);
  const [takeBack = ''] = blocks('A bad rule set');
  const out = await run(takeBack);
  expect(out).toContain('version 3 follows version 2');
  expect(out.endsWith(rulesTo('base'))).toBe(true);
});

it('a leaked key is refused', async () => {
  const key = (await run('npx signpost keys create --tenant acme --name ci 2>/dev/null')).trim();
  const [{ id } = { id: '' }] = JSON.parse(await run('npx signpost keys list --json')) as { id: string }[];
  const [revoke = ''] = blocks('A leaked key');
  expect(await run(revoke, { KEY_ID: id })).toContain('revoked');
  const answer = await fetch(`${edge.url}/v1/models`, { headers: { authorization: `Bearer ${key}` } });
  expect(answer.status).toBe(401);
});

it('every command and option that is named is there', async () => {
  const commands = [...runbook.matchAll(/\b(?:npx )(signpost|signpost-packer|wrangler) ([^\n`#|;]+)/g)];
  expect(commands.length).toBeGreaterThan(20);
  const wrangler = await readFile(join(ROOT, 'node_modules/wrangler/wrangler-dist/cli.js'), 'utf8');
  const sources = await Promise.all(
    [
      'edge/cli/main.ts',
      'edge/cli/keys-command.ts',
      'edge/cli/config-command.ts',
      'edge/cli/routes-command.ts',
      'edge/cli/edge-client.ts',
      'edge/cli/admin-client.ts',
      'packer/src/catalogue/write-commands.ts',
      'packer/src/catalogue/read-commands.ts',
      'packer/src/catalogue/options.ts',
    ].map((path) => readFile(join(ROOT, path), 'utf8')),
  );
  const ours = sources.join('\n');
  for (const [whole = '', tool = '', rest = ''] of commands) {
    const words = rest.trim().split(/\s+/);
    const options = words.filter((word) => word.startsWith('--')).map((word) => word.replace(/[.,)]+$/, ''));
    const [command = '', sub = ''] = words;
    if (tool === 'wrangler') {
      expect(wrangler, whole).toMatch(new RegExp(`wrangler ${command}\\b`));
      for (const option of options) expect(wrangler, whole).toMatch(new RegExp(`["']?${option.slice(2)}["']?: ?\\{`));
      continue;
    }
    const name = tool === 'signpost' ? sub : command;
    expect(ours, whole).toMatch(new RegExp(`(Command|command)\\('${name}'\\)`));
    for (const option of options) expect(ours, whole).toContain(`'${option}`);
  }
});
