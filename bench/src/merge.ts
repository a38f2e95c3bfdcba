/**
 * How long merging takes and how much memory: three fine-tunes by TIES to a checkpoint and to a delta, and a packed one exported.
 * Run: `npx tsx bench/src/merge.ts [1b|7b|70b] [layers]`; beside the page cache, disk for five checkpoints.
 */
import { mkdir, mkdtemp, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { makeCheckpoint, mebibytes, runPacker, type Size } from './checkpoints.ts';

const TUNED = ['first', 'second', 'third'];

const wanted = process.argv[2] ?? '1b';
const size: Size = wanted === '7b' || wanted === '70b' ? wanted : '1b';
const layers = Number(process.argv[3] ?? 9);
const dir = await mkdtemp(join(process.env.BENCH_DIR ?? tmpdir(), 'signpost-bench-merge-'));
const at = (name: string) => join(dir, name);
try {
  for (const [index, name] of ['base', ...TUNED].entries()) {
    await mkdir(at(name));
    await makeCheckpoint(at(name), size, layers, 5 + 4 * index);
  }
  const recipe = {
    merge_method: 'ties',
    base_model: at('base'),
    models: TUNED.map((name) => ({ model: at(name) })),
    parameters: { weight: 1, density: 0.2 },
  };
  await writeFile(at('recipe.yaml'), JSON.stringify(recipe));
  const { size: bytes } = await stat(join(at('base'), 'model.safetensors'));
  console.log(`${size} shapes, ${layers} layers: checkpoints of ${(bytes / 2 ** 30).toFixed(1)} GiB`);
  const delta = at('x.delta.safetensors');
  for (const [what, ...args] of [
    ['merge of three to a checkpoint', 'merge', at('recipe.yaml'), '--out', at('merged')],
    ['merge of three to a delta', 'merge', at('recipe.yaml'), '--out', delta, '--name', 'x'],
    ['export of that delta', 'export', '--base', at('base'), '--delta', delta, '--out', at('exported')],
  ] as const) {
    const { seconds, peakBytes } = runPacker(...args);
    console.log(`${what}: ${seconds.toFixed(0)} s, peak memory ${mebibytes(peakBytes)}`);
    await rm(at('merged'), { recursive: true, force: true });
  }
} finally {
  await rm(dir, { recursive: true });
}
