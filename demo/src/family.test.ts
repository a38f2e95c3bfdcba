import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { prepareDemoStore } from './family.ts';

let state: string;
beforeAll(async () => {
  state = await mkdtemp(join(tmpdir(), 'signpost-family-'));
});
afterAll(() => rm(state, { recursive: true }));

it('a delta that another packer made is made again, the others are kept', async () => {
  const { experts } = await prepareDemoStore(state);
  const [math, chat] = ['math', 'chat'].map((name) => join(state, `${name}.delta.safetensors`));
  if (math === undefined || chat === undefined) throw new Error('no paths');
  const good = await readFile(math);
  const old = Buffer.from(good.toString('latin1').replace(/("packer":")\d/, '$19'), 'latin1');
  expect(old.equals(good)).toBe(false);
  await writeFile(math, old);
  // Not looked into again: what is kept keeps its time.
  const { mtimeMs } = await stat(chat);
  expect((await prepareDemoStore(state)).experts.map(({ version }) => version.digest)).toEqual(
    experts.map(({ version }) => version.digest),
  );
  expect((await readFile(math)).equals(good)).toBe(true);
  expect((await stat(chat)).mtimeMs).toBe(mtimeMs);
});
