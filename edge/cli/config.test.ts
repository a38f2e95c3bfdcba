import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type EdgeHandle, startEdge } from '../local/edge.ts';
import { answerWhole, Upstream } from '../local/upstream.ts';
import { run } from './run.ts';

const ADMIN_KEY = 'an-administrators-key';
const API_KEY = 'sk-static';
const rulesTo = (model: string) => `version: 1\nrules:\n  - { name: rest, then: { model: ${model} } }\n`;

let dir: string;
let region: Upstream;
let edge: EdgeHandle;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'signpost-config-'));
  region = await Upstream.start();
  region.respond = answerWhole('hello');
  edge = await startEdge({
    regions: [{ name: 'near', url: region.url }],
    keys: { [API_KEY]: 'acme' },
    adminKeys: { [ADMIN_KEY]: 'ada' },
    routing: rulesTo('base'),
    onLog: () => {},
  });
});
afterAll(async () => {
  await edge?.close();
  await region?.close();
  await rm(dir, { recursive: true });
});

const config = (...args: string[]) =>
  run(['config', ...args], { SIGNPOST_EDGE: edge.url, SIGNPOST_ADMIN_KEY: ADMIN_KEY });

async function file(text: string): Promise<string> {
  const path = join(dir, 'routing.yaml');
  await writeFile(path, text);
  return path;
}

it('signpost config gets, tries, puts, lists, and rolls back', async () => {
  for (let i = 0; i < 2; i++) {
    await fetch(`${edge.url}/v1/chat/completions`, {
      method: 'POST',
      headers: { authorization: `Bearer ${API_KEY}`, 'x-request-id': `req-${i}` },
      body: JSON.stringify({ model: 'auto', messages: [{ role: 'user', content: 'hi' }] }),
    });
  }
  const got = await config('get');
  expect(got).toMatchObject({
    code: 0,
    out: rulesTo('base'),
    err: expect.stringMatching(/^version 1, written .*Z by by hand\nin force: version 1, read \d+ s ago\n$/),
  });

  const law = await file(rulesTo('law'));
  await expect
    .poll(async () => (await config('put', law, '--dry-run')).out, { timeout: 30_000, interval: 100 })
    .toMatch(/of the latest 2 requests/);
  const tried = await config('put', law, '--dry-run');
  expect(tried.out).toMatch(
    /^would follow version 1\nof the latest 2 requests: 0 the same, 2 changed, 0 unknown\n {2}2: rest → base becomes rest → law, such as req-[01] \(acme: auto\)\n/,
  );
  expect(tried.out).toMatch(/\nmodel +before +after\nbase +2 +0\nlaw +0 +2\n$/);
  const shorter = await file(rulesTo('base, limits: { maxTokens: 5 }'));
  expect((await config('put', shorter, '--dry-run')).out).toMatch(
    /\n {2}2: rest → base becomes rest → base \(differs in limits\), such as req-/,
  );
  await file(rulesTo('law'));
  expect((await config('get')).out).toBe(rulesTo('base'));

  const put = await config('put', law, '--message', 'lawyers first', '--decisions', '1');
  expect(put.out).toMatch(
    /^version 2 follows version 1, and is in force everywhere within a minute\nof the latest 1 req/,
  );
  expect((await config('put', law)).out).toMatch(/^these are the rules that are there already, version 2\n/);
  expect(await config('put', await file(rulesTo('code')), '--if-version', '1')).toMatchObject({
    code: 1,
    err: expect.stringMatching(/^signpost: .* says 412: the rules are at version 2, not 1/),
  });
  expect(await config('put', await file('rules: 1'))).toMatchObject({
    code: 1,
    err: expect.stringMatching(/says 400: the rules: .*version/),
  });

  expect((await config('rollback', '1')).out).toMatch(/^version 3 follows version 2/);
  expect((await config('versions')).out).toMatch(
    /^version +written +by +sha256 +message\n3 .* ada .*back to version 1\n2 .* ada .*lawyers first\n1 .* by hand /,
  );
  expect((await config('get', '2')).out).toBe(rulesTo('law'));
  expect(JSON.parse((await config('get', '--json')).out)).toMatchObject({ version: 3, text: rulesTo('base') });
});
