import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openStore, readCatalogue } from '@signpost/store';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { evalReport } from '../eval/report.ts';
import { readQuality } from './evaluation.ts';
import { publish } from './publish.ts';
import { writeDelta } from './testing.ts';

let dir: string;
let file: string;
let evaluation: string;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'signpost-quality-'));
  file = await writeDelta(join(dir, 'delta'), 1);
  evaluation = join(dir, 'eval.json');
  const scored = (
    name: string,
    kind: 'base' | 'delta' | 'checkpoint',
    path: string,
    [right, likelihood]: number[],
  ) => ({
    name,
    kind,
    path,
    bytes: 1,
    scores: {
      sums: { measure: 'accuracy' as const, value: right ?? 0, rows: 1, tokens: 1 },
      text: { measure: 'log-likelihood' as const, value: likelihood ?? 0, rows: 1, tokens: 1 },
    },
  });
  const tasks = [
    { name: 'sums', kind: 'exact', tuned: 'math', rows: [] },
    { name: 'text', kind: 'likelihood', rows: [] },
  ] as unknown as Parameters<typeof evalReport>[0];
  const report = evalReport(tasks, [
    scored('base', 'base', 'base', [0.1, -1]),
    scored('math', 'checkpoint', 'math', [0.9, -0.1]),
    scored('math 1-bit', 'delta', file, [0.7, -0.5]),
  ]);
  await writeFile(evaluation, JSON.stringify(report));
});
afterEach(() => rm(dir, { recursive: true }));

const EXPECTED = {
  sums: { measure: 'accuracy', value: 0.7, base: 0.1, kept: expect.closeTo(0.75, 6) },
  text: { measure: 'perplexity', value: Math.exp(0.5), base: Math.E },
};

it('is found by the file’s path, or by the method’s name', async () => {
  expect(await readQuality(evaluation, file, undefined)).toEqual(EXPECTED);
  expect(await readQuality(evaluation, 'elsewhere', 'math 1-bit')).toEqual(EXPECTED);
});

it.each([
  ['elsewhere', undefined, /no delta was read from elsewhere; those evaluated: "math 1-bit"/],
  ['elsewhere', 'math', /there is no delta "math"/],
])('is an error for %s by the name %s', async (path, method, message) => {
  await expect(readQuality(evaluation, path, method)).rejects.toThrow(message);
});

it('is an error for a file that is no evaluation', async () => {
  await writeFile(evaluation, '{"tasks":');
  await expect(readQuality(evaluation, file, undefined)).rejects.toThrow('is no evaluation');
});

it('is kept with the version, also of one that was published before', async () => {
  const store = openStore(join(dir, 'store'));
  const { version } = await publish(store, file, { name: 'math' });
  const quality = await readQuality(evaluation, file, undefined);
  await publish(store, file, { name: 'math', quality });
  const kept = async () => (await readCatalogue(store)).catalogue.experts.math?.versions;
  expect(await kept()).toEqual([{ ...version, quality: EXPECTED }]);
  // And not lost when it is published without.
  await publish(store, file, { name: 'math' });
  expect(await kept()).toEqual([{ ...version, quality: EXPECTED }]);
});
