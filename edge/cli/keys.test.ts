import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type EdgeHandle, startEdge } from '../local/edge.ts';
import { answerWhole, Upstream } from '../local/upstream.ts';
import { isKeyText } from '../src/keys/key-text.ts';
import { run } from './run.ts';

const ADMIN_KEY = 'an-administrators-key';

let dir: string;
let region: Upstream;
let edge: EdgeHandle;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'signpost-cli-'));
  region = await Upstream.start();
  region.respond = answerWhole('hello');
  edge = await startEdge({ regions: [{ name: 'near', url: region.url }], adminKeys: { [ADMIN_KEY]: 'ada' } });
});
afterAll(async () => {
  await edge?.close();
  await region?.close();
  await rm(dir, { recursive: true });
});

const keys = (args: string[], env: Record<string, string> = {}) =>
  run(['keys', ...args], { SIGNPOST_EDGE: edge.url, SIGNPOST_ADMIN_KEY: ADMIN_KEY, ...env });

const ask = async (key: string) =>
  (
    await fetch(`${edge.url}/v1/chat/completions`, {
      method: 'POST',
      headers: { authorization: `Bearer ${key}` },
      body: JSON.stringify({ model: 'math', messages: [{ role: 'user', content: 'hi' }] }),
    })
  ).status;

describe('signpost keys', () => {
  it('makes a key that works, lists it, tells how it stands, and revokes it', async () => {
    const limits = ['--requests-per-minute', '60', '--tokens-per-day', '1_000_000', '--concurrency', '4'];
    const made = await keys(['create', '--tenant', 'acme', '--name', 'ci', '--models', 'math,law-*', ...limits]);
    expect(made).toMatchObject({
      code: 0,
      err: expect.stringMatching(/^key [0-9a-f]{12} of acme\. .*not shown again/),
    });
    const key = made.out.trim();
    expect(isKeyText(key)).toBe(true);
    expect(await ask(key)).toBe(200);
    const id = /key (\S+)/.exec(made.err)?.[1] ?? '';

    const listed = await keys(['list']);
    expect(listed.out).toMatch(/^id +name +tenant +models +requests\/min +tokens\/day +at once +created +state\n/);
    expect(listed.out).toMatch(
      new RegExp(`\\n${id} +ci +acme +math,law-\\* +60 +1000000 +4 +\\d{4}-\\d\\d-\\d\\d +good\\n`),
    );
    expect(listed.out).not.toContain(key);
    expect((await keys(['show', id])).out).toMatch(/requests_per_minute +59 of 60 left/);

    expect((await keys(['revoke', id])).out).toMatch(new RegExp(`^key ${id} \\(ci, acme\\) is revoked since 20`));
    expect(await ask(key)).toBe(401);
    expect((await keys(['list'])).out).toMatch(/revoked \d{4}-\d\d-\d\d\n/);
  });

  it('speaks JSON, takes the administrator’s key from a file, and an end for the key', async () => {
    const file = join(dir, 'admin.key');
    await writeFile(file, `${ADMIN_KEY}\n`);
    const flags = ['--tenant', 'acme', '--expires', '90d', '--json', '--admin-key-file', file, '--edge', edge.url];
    const made = await run(['keys', 'create', ...flags], { SIGNPOST_ADMIN_KEY: '' });
    const { key, expires_at: expires } = JSON.parse(made.out) as { key: string; expires_at: string };
    expect(isKeyText(key)).toBe(true);
    expect((Date.parse(expires) - Date.now()) / 86_400_000).toBeCloseTo(90, 1);
  });

  it.each([
    ['no edge', ['list'], { SIGNPOST_EDGE: '' }, /--edge: "" is no URL/],
    ['no key', ['list'], { SIGNPOST_ADMIN_KEY: '' }, /set SIGNPOST_ADMIN_KEY, or give --admin-key-file/],
    ['a wrong key', ['list'], { SIGNPOST_ADMIN_KEY: 'guess' }, /says 401: this takes a key of ADMIN_KEY_HASHES/],
    ['an edge that would get the key unencrypted', ['list', '--edge', 'http://edge.example'], {}, /use https/],
    ['an edge that is not there', ['list', '--edge', 'http://127.0.0.1:9'], {}, /can't be reached: (connect|bad port)/],
    ['a limit that is none', ['create', '--tenant', 'a', '--concurrency', '0'], {}, /whole number above 0/],
    ['a time that is none', ['create', '--tenant', 'a', '--expires', 'soon'], {}, /expected 90d/],
    [
      'a time that is past',
      ['create', '--tenant', 'a', '--expires', '2020-01-01'],
      {},
      /says 400: expires_at: .* is past/,
    ],
    [
      'a key that is not there',
      ['revoke', '0123456789ab'],
      {},
      /says 404: there is no API key with the id "0123456789ab"/,
    ],
  ])('says what is wrong: %s', async (_, args, env, message) => {
    const { code, err, out } = await keys([...args], env);
    expect([code, out, err]).toEqual([1, '', expect.stringMatching(message)]);
    expect(err).not.toContain(ADMIN_KEY);
    expect(err).not.toMatch(/ at .*:\d+/);
  });
});
