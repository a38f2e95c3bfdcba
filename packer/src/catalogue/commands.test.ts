/**
 * The catalogue's commands, from flags to what they print, over one store's life.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Catalogue } from '@signpost/contracts';
import { openCheckpoint } from '@signpost/engine';
import { Command } from 'commander';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { pack } from '../pack/pack.ts';
import { readCommands } from './read-commands.ts';
import { writeCommands } from './write-commands.ts';

const GOLDEN = join(import.meta.dirname, '../../../test/golden/merge');

let dir: string;
let printed: string[];
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'signpost-commands-'));
  printed = [];
  vi.spyOn(console, 'log').mockImplementation((line: string) => void printed.push(line));
  vi.spyOn(process.stderr, 'write').mockReturnValue(true);
});
afterEach(async () => {
  vi.restoreAllMocks();
  vi.unstubAllEnvs();
  await rm(dir, { recursive: true });
});

/** Runs one command; what it printed. */
async function run(...args: readonly string[]): Promise<string> {
  printed = [];
  const program = new Command().exitOverride();
  for (const command of [...writeCommands(), ...readCommands()]) {
    command.exitOverride().configureOutput({ writeErr: () => undefined });
    program.addCommand(command);
  }
  await program.parseAsync(args, { from: 'user' });
  return printed.join('\n');
}

async function runJson<T>(...args: readonly string[]): Promise<T> {
  return JSON.parse(await run(...args, '--json')) as T;
}

async function packed(name: string): Promise<string> {
  const out = join(dir, name);
  const [base, tuned] = [await openCheckpoint(join(GOLDEN, 'base')), await openCheckpoint(join(GOLDEN, name))];
  await pack(base, tuned, { name: 'math', out, scale: 'row', planes: 1 });
  return out;
}

describe('the commands', () => {
  it('sign, publish, promote, roll back, list, verify and collect', async () => {
    const [key, store] = [join(dir, 'key'), join(dir, 'store')];
    const { id } = await runJson<{ id: string }>('keygen', '--out', key);
    vi.stubEnv('SIGNPOST_SIGN_KEY', key);
    vi.stubEnv('SIGNPOST_TRUST_KEY', `${key}.pub`);
    const on = ['--store', store];
    const publishOne = async (name: string, ...flags: string[]) =>
      (await runJson<{ version: { digest: string } }>('publish', await packed(name), ...on, ...flags)).version.digest;
    const a = await publishOne('a');
    const b = await publishOne('b', '--channel', 'next');

    expect(await run('promote', 'math', 'next', ...on, '--weight', '0.1')).toBe(
      `math@stable is now ${a.slice(0, 12)} 90 %, ${b.slice(0, 12)} 10 %`,
    );
    const lines = (await run('list', ...on)).split('\n');
    expect(lines[1]).toMatch(new RegExp(`^math +${a.slice(0, 12)} +stable 90 % +[0-9.]+ KiB +sign +base +20`));
    expect(lines[2]).toMatch(new RegExp(`^math +${b.slice(0, 12)} +stable 10 %, next `));
    expect(lines[3]).toBe(`signed with key ${id}`);
    expect(await run('promote', 'math', b.slice(0, 8), ...on)).toBe(`math@stable is now ${b}`);
    expect(await run('preload', 'math', 'math@next', ...on)).toBe('regions bring in ahead: math, math@next');
    expect(await run('list', ...on)).toMatch(/brought in ahead: math, math@next$/m);
    expect(await run('preload', ...on)).toBe('regions bring in ahead: nothing');
    expect(await run('labels', 'sums=math@next', 'talk=base', ...on)).toBe(
      'sums is answered by math@next\ntalk is answered by base',
    );
    expect(await run('labels', ...on)).toBe('each label stands for the expert of its name');
    await run('rollback', 'math', ...on);
    expect(await run('rollback', 'math', ...on)).toBe(`math@stable is now ${a}`);
    await expect(run('rollback', 'math', ...on)).rejects.toThrow(/has pointed at nothing else/);

    const against = ['--base', join(GOLDEN, 'base'), '--tuned', join(GOLDEN, 'b')];
    expect(await run('verify', 'math@next', ...on, ...against)).toMatch(
      /as expected\n.*\n\d+ matrices have the errors/,
    );
    expect(await run('verify', join(dir, 'b'), ...against)).toMatch(/nothing to compare with: give --digest/);
    await run('verify', join(dir, 'b'), '--digest', b, ...against);
    await expect(run('verify', join(dir, 'b'), '--digest', a, ...against)).rejects.toThrow(`expected ${a}`);
    const seen = await runJson<{ metadata: { expert: string } }>('inspect', 'math', ...on);
    expect(seen.metadata.expert).toBe('math');
    expect(await run('inspect', join(dir, 'b'))).toMatch(
      /relative error, planes, bytes by matrix:\n {4}0\.\d{4} {2}1 /,
    );

    expect(await run('gc', ...on, '--grace', '0m', '--dry-run')).toBe('would remove 0 versions and 0 objects (0 B)');
    await run('publish', await packed('c'), ...on);
    await run('rollback', 'math', ...on);
    const { versions, objects } = await runJson<{ versions: unknown[]; objects: unknown[] }>(
      'gc',
      ...on,
      '--grace',
      '0m',
    );
    expect([versions.length, objects.length]).toEqual([1, 1]);
    const { experts } = await runJson<Catalogue>('list', ...on);
    expect(experts.math?.versions.map(({ digest }) => digest)).toEqual([a, b]);
  });

  it('sign an unsigned catalogue when asked to, and not otherwise', async () => {
    const [key, store] = [join(dir, 'key'), join(dir, 'store')];
    await run('keygen', '--out', key);
    await run('publish', await packed('a'), '--store', store);
    await expect(run('publish', await packed('b'), '--store', store, '--sign-key', key)).rejects.toThrow(
      /is not signed/,
    );
    await expect(run('sign', '--store', store)).rejects.toThrow(/nothing to sign with/);
    expect(await run('sign', '--store', store, '--sign-key', key)).toMatch(/signed with key \w{16}: math/);
    await expect(run('rollback', 'math', '--store', store)).rejects.toThrow(/is signed by key/);
    await run('publish', await packed('b'), '--store', store, '--sign-key', key);
    expect(await run('list', '--store', store)).toMatch(/\(not checked: no --trust-key\)$/);
    await run('keygen', '--out', join(dir, 'other'));
    await expect(run('list', '--store', store, '--trust-key', join(dir, 'other.pub'))).rejects.toThrow(
      /only \w+ is tr/,
    );
    await run('list', '--store', store, '--trust-key', join(dir, 'other.pub'), '--trust-key', `${key}.pub`);
  });

  it('refuse shares, durations, digests and names that are none', async () => {
    const store = ['--store', join(dir, 'store')];
    await expect(run('promote', 'math', 'next', ...store, '--weight', '1.5')).rejects.toThrow(/above 0 and at most 1/);
    await expect(run('gc', ...store, '--grace', '7')).rejects.toThrow(/30m, 12h, 7d/);
    await expect(run('verify', 'x', '--base', '.', '--digest', 'abc')).rejects.toThrow(/expected a sha256/);
    await expect(run('inspect', 'a+b', ...store)).rejects.toThrow(/"a\+b" is not one expert/);
    await expect(run('inspect', join(dir, 'none'))).rejects.toThrow(/none: ENOENT/);
  });
});
