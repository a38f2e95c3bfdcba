/**
 * `signpost-packer merge` and `signpost-packer export`: experts as plain checkpoints, alone or merged.
 */
import { readFile } from 'node:fs/promises';
import { Problem } from '@signpost/contracts';
import type { ParamDtype } from '@signpost/engine';
import { Command, InvalidArgumentError, Option } from 'commander';
import { pack } from '../pack/pack.ts';
import { formatBytes, withProgress } from '../progress.ts';
import { DELTA_SUFFIX } from './input.ts';
import { type Merged, openMerge, ownDtype } from './merge.ts';
import { DTYPES, type DtypeName, type MergeRecipe, readRecipe } from './recipe.ts';
import { type WriteReport, writeCheckpoint } from './write-checkpoint.ts';

/** As transformers and mergekit have it. */
const DEFAULT_SHARD = '5GB';

interface WriteFlags {
  readonly out: string;
  readonly maxShardSize?: number;
  readonly json: boolean;
}

export function mergeCommand(): Command {
  return new Command('merge')
    .description('merge models of one base by a recipe (mergekit’s YAML) into a checkpoint or a delta')
    .argument('<recipe>', 'recipe file; paths in it are relative to its folder')
    .requiredOption('--out <path>', 'folder for the checkpoint, or delta file (NAME.delta.safetensors)')
    .option('--name <name>', "the expert's name, for a delta")
    .addOption(shardOption())
    .option('--json', 'print the report as JSON', false)
    .action(merge);
}

async function merge(path: string, flags: WriteFlags & { readonly name?: string }): Promise<void> {
  const recipe = await readRecipe(path);
  if (!flags.out.endsWith(DELTA_SUFFIX)) {
    if (flags.name !== undefined) throw new Problem(`--name is for a delta, and ${flags.out} is a folder`);
    const notes = { 'merge.yaml': await readFile(path, 'utf8') };
    return print(await write(await openMerge(recipe), recipe.dtype, flags, notes), flags);
  }
  const { name } = flags;
  if (name === undefined) throw new Problem(`${flags.out} is a delta, which needs --name`);
  if (flags.maxShardSize !== undefined) throw new Problem('--max-shard-size is for a checkpoint; a delta is one file');
  const { base, checkpoint, tokenizer } = await openMerge(recipe);
  const report = await withProgress(`packing ${name}`, (watch) =>
    pack(base, checkpoint, { name, out: flags.out, scale: 'row', planes: 1, tokenizer, ...watch }),
  );
  console.log(flags.json ? JSON.stringify(report) : `${report.out}: ${formatBytes(report.bytes)}`);
}

interface ExportFlags extends WriteFlags {
  readonly base: string;
  readonly delta: string[];
  readonly weight: number[];
  readonly dtype?: DtypeName;
}

export function exportCommand(): Command {
  return new Command('export')
    .description('write one expert, or a mixture of several, as a plain checkpoint that needs no deltas')
    .requiredOption('--base <dir>', 'base checkpoint: a folder, or hf://ORG/NAME@REVISION')
    .requiredOption('--delta <file>', 'delta file; again for each further expert of a mixture', append)
    .option('--weight <number>', 'weight of the delta at the same place among the deltas (1)', appendNumber)
    .requiredOption('--out <dir>', 'folder to write')
    .addOption(new Option('--dtype <name>', "of the weights (the base's own)").choices(Object.keys(DTYPES)))
    .addOption(shardOption())
    .option('--json', 'print the report as JSON', false)
    .action(async ({ weight = [], ...flags }: ExportFlags) => {
      if (weight.length > flags.delta.length)
        throw new Problem(`${weight.length} weights for ${flags.delta.length} deltas; give at most one for each`);
      const recipe = mixtureRecipe(
        flags.base,
        flags.delta.map((location, index) => ({ location, weight: weight[index] ?? 1 })),
      );
      const dtype = flags.dtype === undefined ? undefined : DTYPES[flags.dtype];
      print(await write(await openMerge(recipe), dtype, flags, {}), flags);
    });
}

/** `base + Σ w · Δ`: what the engine computes for a mixture. */
export function mixtureRecipe(
  base: string,
  deltas: readonly { readonly location: string; readonly weight: number }[],
): MergeRecipe {
  return {
    where: 'export',
    method: 'task_arithmetic',
    base,
    models: deltas.map(({ location, weight }) => ({ location, parameters: { weight } })),
    parameters: {},
    dtype: undefined,
    tokenizerSource: undefined,
  };
}

function write(
  { base, checkpoint, tokenizer }: Merged,
  dtype: ParamDtype | undefined,
  { out, maxShardSize = shardSize(DEFAULT_SHARD) }: WriteFlags,
  notes: Readonly<Record<string, string>>,
): Promise<WriteReport> {
  const dtypeOf = dtype === undefined ? ownDtype(base) : () => dtype;
  return withProgress(`writing ${out}`, (watch) =>
    writeCheckpoint(checkpoint, { out, dtypeOf, maxShardBytes: maxShardSize, tokenizer, notes, ...watch }),
  );
}

function print(report: WriteReport, { json }: WriteFlags): void {
  const { out, bytes, shards } = report;
  const files = shards === 1 ? '1 file' : `${shards} files`;
  console.log(json ? JSON.stringify(report) : `${out}: ${formatBytes(bytes)} of weights in ${files}`);
}

function shardOption(): Option {
  return new Option('--max-shard-size <size>', `largest file of weights, such as 500MB (${DEFAULT_SHARD})`).argParser(
    shardSize,
  );
}

const UNITS: Readonly<Record<string, number>> = {
  B: 1,
  KB: 1e3,
  MB: 1e6,
  GB: 1e9,
  KIB: 2 ** 10,
  MIB: 2 ** 20,
  GIB: 2 ** 30,
};

/** Bytes of a size such as `5GB` or `200MiB`. */
function shardSize(text: string): number {
  const { amount, unit } = /^(?<amount>\d+(\.\d+)?)\s*(?<unit>[KMG]?i?B)$/i.exec(text)?.groups ?? {};
  const bytes = Math.floor(Number(amount) * (UNITS[unit?.toUpperCase() ?? ''] ?? Number.NaN));
  if (!(bytes >= 1)) throw new InvalidArgumentError('expected a size such as 5GB or 200MiB');
  return bytes;
}

function append(value: string, before: string[] = []): string[] {
  return [...before, value];
}

function appendNumber(text: string, before: number[] = []): number[] {
  const value = Number(text);
  if (text.trim() === '' || !Number.isFinite(value)) throw new InvalidArgumentError('expected a number');
  return [...before, value];
}
