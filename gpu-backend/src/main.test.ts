/**
 * The command line, as an operator's shell and supervisor see it.
 */
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readyAt, startProcess } from './testing/container-process.ts';

const BASE = join(import.meta.dirname, '../../models/demo/base');

let store: string;
const children: ChildProcess[] = [];
beforeAll(async () => {
  store = await mkdtemp(join(tmpdir(), 'signpost-main-'));
});
afterAll(async () => {
  for (const child of children) child.kill('SIGKILL');
  await rm(store, { recursive: true, force: true });
});

function run(flags: readonly string[], env: Record<string, string> = {}) {
  const started = startProcess(['--base', BASE, '--store', store, '--region', 'test', ...flags], env);
  children.push(started.child);
  return { ...started, exit: started.exit.then(({ code, stderr }) => ({ code, stderr })) };
}

describe('signpost-backend', () => {
  it('ends by itself after SIGTERM, when what it was answering is answered', async () => {
    const { child, exit, lines } = run(['--port', '0', '--threads', '1', '--slots', '1']);
    const url = await readyAt(lines);
    const answer = fetch(`${url}/v1/completions`, {
      method: 'POST',
      body: JSON.stringify({ model: 'base', prompt: 'Once upon a time', max_tokens: 400, ignore_eos: true }),
    });
    const running = async () => ((await (await fetch(`${url}/heartbeat`)).json()) as { running: number }).running;
    await expect.poll(running, { interval: 2 }).toBe(1);
    child.kill('SIGTERM');
    expect((await answer).status).toBe(200);
    expect(await exit).toEqual({ code: 0, stderr: '' });
  });

  it('does not wait longer than it was told', async () => {
    const { child, exit, lines } = run(['--port', '0', '--drain-limit', '0', '--max-step-tokens', '1']);
    const url = await readyAt(lines);
    const body = JSON.stringify({ model: 'base', prompt: Array(900).fill(300), max_tokens: 100 });
    const answer = fetch(`${url}/v1/completions`, { method: 'POST', body });
    const running = async () => ((await (await fetch(`${url}/heartbeat`)).json()) as { running: number }).running;
    await expect.poll(running, { interval: 2 }).toBe(1);
    child.kill('SIGTERM');
    expect(await (await answer).json()).toMatchObject({ error: { code: 'engine_gone' } });
    expect((await exit).code).toBe(0);
  });

  it('says in one line what is wrong with how it was started', async () => {
    const busy = createServer().listen(0, '127.0.0.1');
    await once(busy, 'listening');
    const { port } = busy.address() as AddressInfo;
    const starts: [string[], Record<string, string>, RegExp][] = [
      [['--port', String(port)], {}, /can't listen on 127\.0\.0\.1:\d+ \(EADDRINUSE\)/],
      [['--port', '0', '--base', store], {}, /tokenizer(_config)?\.json/],
      [['--port', '0', '--host', '0.0.0.0'], {}, /set it \(openssl rand -hex 32\), or listen on 127\.0\.0\.1/],
      [['--port', '0'], { SIGNPOST_REGION_SECRET: 'short' }, /SIGNPOST_REGION_SECRET: .* at least 32 bytes/],
      [['--port', '0', '--store', 'ftp://x'], {}, /scheme "ftp" is not known/],
      [['--port', '0', '--max-step-tokens', '0'], {}, /maxStepTokens is 0/],
      [['--port', '0', '--decode-steps', '33'], {}, /decodeSteps is 33; at most 32 .* lower --decode-steps/],
      [['--port', 'x'], {}, /expected a whole number/],
      [['--port', '0'], { SIGNPOST_KV_TOKENS: 'many' }, /SIGNPOST_KV_TOKENS.*expected a whole number/],
    ];
    const ends = await Promise.all(starts.map(([flags, env]) => run(flags, env).exit));
    busy.close();
    for (const [i, { code, stderr }] of ends.entries()) {
      expect(code).toBe(1);
      expect(stderr.trim()).toMatch(starts[i]?.[2] ?? /^$/);
      expect(stderr.trim().split('\n')).toHaveLength(1);
    }
  });
});
