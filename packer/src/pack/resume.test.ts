/**
 * How a run that was killed goes on: behind the last parameter it wrote, or anew where anything it was made of has changed.
 */
import { copyFile, cp, mkdtemp, open, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Checkpoint, openCheckpoint } from '@signpost/engine';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { sequences } from '../calibrate/fixtures.ts';
import { openMerge } from '../merge/merge.ts';
import { readRecipe } from '../merge/recipe.ts';
import { openSource } from '../source/open.ts';
import { type PackOptions, pack } from './pack.ts';

const GOLDEN = join(import.meta.dirname, '../../../test/golden');
const MERGE = join(GOLDEN, 'merge');

let dir: string;
let base: Checkpoint;
let tuned: Checkpoint;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'signpost-resume-'));
  base = await openCheckpoint(join(MERGE, 'base'));
  tuned = await openCheckpoint(join(MERGE, 'a'));
});
afterAll(() => rm(dir, { recursive: true }));

/** The delta of a run that nothing disturbed. */
async function whole(from: Checkpoint, options: Partial<PackOptions> = {}): Promise<Buffer> {
  const out = join(dir, 'whole.delta.safetensors');
  await pack(base, from, { name: 'a', out, ...options });
  return readFile(out);
}

describe('a killed run', () => {
  it.each([
    ['plain', 'row', undefined],
    ['calibrated', 'row', 1],
    ['calibrated by columns', 'row-col', 1],
  ] as const)('goes on behind the last parameter written: %s', async (_, scale, seed) => {
    const options = seed === undefined ? { scale } : { scale, calibration: sequences(seed, base) };
    const want = await whole(tuned, options);
    const out = join(dir, `resumed-${scale}-${seed}`);
    await leaveBehind(out, options, 5);
    let parameters = 0;
    const report = await pack(base, tuned, { name: 'a', out, ...options, onProgress: () => parameters++ });
    expect(parameters).toBe(report.params.length);
    expect((await readFile(out)).equals(want)).toBe(true);
    expect((await readdir(dir)).filter((name) => name.includes('.partial'))).toEqual([]);
  });

  it('with other inputs begins anew', async () => {
    const out = join(dir, 'other');
    await leaveBehind(out, {}, 5);
    const other = await openCheckpoint(join(MERGE, 'b'));
    await pack(base, other, { name: 'a', out });
    expect((await readFile(out)).equals(await whole(other))).toBe(true);
  });

  it('begins anew where another version calibrated, and only there', async () => {
    const options = { calibration: sequences(1, base) };
    const want = await whole(tuned, options);
    vi.resetModules();
    vi.doMock('../calibrate/fit.ts', async (original) => ({
      ...(await original<typeof import('../calibrate/fit.ts')>()),
      CALIBRATION_VERSION: 0,
    }));
    const older = (await import('./pack.ts')).pack;
    vi.doUnmock('../calibrate/fit.ts');
    for (const [packer, isKept] of [
      [pack, true],
      [older, false],
    ] as const) {
      const out = join(dir, `version-${isKept}`);
      await leaveBehind(out, options, 5, tuned, packer);
      await turnLastByte(`${out}.partial`);
      await pack(base, tuned, { name: 'a', out, ...options });
      expect((await readFile(out)).equals(want)).toBe(!isKept);
    }
  });

  it('begins anew where MODEL of MODEL+ADAPTER has changed', async () => {
    const model = join(dir, 'model');
    await cp(join(MERGE, 'a'), model, { recursive: true });
    const open = () => openSource(`${model}+${join(GOLDEN, 'peft/lora')}`, { base });
    const out = join(dir, 'adapted');
    await leaveBehind(out, {}, 5, await open());
    await rm(model, { recursive: true });
    await cp(join(MERGE, 'b'), model, { recursive: true });
    const changed = await open();
    await pack(base, changed, { name: 'a', out });
    expect((await readFile(out)).equals(await whole(changed))).toBe(true);
  });

  it('begins anew where a merge has another model or other parameters', async () => {
    const recipe = join(dir, 'merge.yaml');
    const open = async (model: string, weight: number) => {
      const models = `models: [{ model: ${join(MERGE, model)}, parameters: { weight: ${weight} } }]`;
      await writeFile(recipe, `merge_method: task_arithmetic\nbase_model: ${join(MERGE, 'base')}\n${models}\n`);
      return (await openMerge(await readRecipe(recipe))).checkpoint;
    };
    for (const [model, weight] of [
      ['b', 1],
      ['a', 0.5],
    ] as const) {
      const out = join(dir, `merged-${model}`);
      await leaveBehind(out, {}, 5, await open('a', 1));
      const changed = await open(model, weight);
      await pack(base, changed, { name: 'a', out });
      expect((await readFile(out)).equals(await whole(changed))).toBe(true);
    }
  });
});

/** What a process killed after some parameters leaves: copied while the run is under way, put back once it has cleaned up. */
async function leaveBehind(
  out: string,
  options: Partial<PackOptions>,
  parameters: number,
  from = tuned,
  packer = pack,
): Promise<void> {
  const [partial, journal] = [`${out}.partial`, `${out}.partial.json`];
  const controller = new AbortController();
  let count = 0;
  const copies: Promise<void>[] = [];
  const stopped = packer(base, from, {
    name: 'a',
    out,
    ...options,
    journalIntervalMs: 0,
    signal: controller.signal,
    onProgress: () => {
      if (++count !== parameters) return;
      copies.push(copyFile(partial, `${partial}.kept`), copyFile(journal, `${journal}.kept`));
      controller.abort();
    },
  });
  await expect(stopped).rejects.toThrow(/abort/);
  await Promise.all(copies);
  await copyFile(`${partial}.kept`, partial);
  await copyFile(`${journal}.kept`, journal);
  await Promise.all([rm(`${partial}.kept`), rm(`${journal}.kept`)]);
}

/** Marks what a run has left, to tell whether the next one kept it. */
async function turnLastByte(path: string): Promise<void> {
  const { size } = await stat(path);
  const file = await open(path, 'r+');
  const byte = new Uint8Array(1);
  await file.read(byte, 0, 1, size - 1);
  await file.write(
    byte.map((value) => value ^ 1),
    0,
    1,
    size - 1,
  );
  await file.close();
}
