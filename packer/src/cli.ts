/**
 * `signpost-packer`: the command line.
 */
import { Problem } from '@signpost/contracts';
import { openStore } from '@signpost/store';
import { Command, InvalidArgumentError, Option } from 'commander';
import manifest from '../package.json' with { type: 'json' };
import { exportCommand, mergeCommand } from './merge/command.ts';
import { type PackReport, pack } from './pack/pack.ts';
import { formatBytes, withProgress } from './progress.ts';
import { publish } from './publish.ts';
import { routerCommand } from './router/command.ts';
import { openSource } from './source/open.ts';
import { checkTokenizer } from './source/tokenizer.ts';

interface PackFlags {
  readonly base: string;
  readonly tuned: string;
  readonly name: string;
  readonly out: string;
  readonly scale: 'row' | 'matrix';
  readonly planes: number;
  readonly json: boolean;
}

interface PublishFlags {
  readonly store: string;
  readonly name?: string;
  readonly channel: string;
  readonly baseName: string;
  readonly json: boolean;
}

function packCommand(): Command {
  return new Command('pack')
    .description('pack the difference between a fine-tune and its base as a 1-bit delta file')
    .requiredOption(
      '--base <dir>',
      'base checkpoint: a Hugging Face folder with safetensors, or hf://ORG/NAME@REVISION',
    )
    .requiredOption('--tuned <dir>', 'the same of the fine-tune, or of a LoRA adapter')
    .requiredOption('--name <name>', 'expert name')
    .requiredOption('--out <file>', 'delta file to write (NAME.delta.safetensors)')
    .addOption(
      new Option('--scale <kind>', 'one scale for each output row, or one for a whole matrix')
        .choices(['row', 'matrix'])
        .default('row'),
    )
    .option('--planes <n>', '1-bit planes a matrix', planeCount, 1)
    .option('--json', 'print the report as JSON', false)
    .action(async (flags: PackFlags) => {
      const base = await openSource(flags.base);
      const tuned = await openSource(flags.tuned, { base });
      await checkTokenizer(base, tuned);
      const report = await withProgress(`packing ${flags.name}`, (watch) => pack(base, tuned, { ...flags, ...watch }));
      console.log(flags.json ? JSON.stringify(report) : describeReport(report));
    });
}

function describeReport({ out, bytes, sourceBytes, errors }: PackReport): string {
  const values = Object.values(errors);
  const mean = values.reduce((sum, error) => sum + error, 0) / Math.max(1, values.length);
  const share = ((100 * bytes) / sourceBytes).toFixed(1);
  return `${out}: ${formatBytes(bytes)}, ${share} % of the fine-tune's ${formatBytes(sourceBytes)}; mean relative error of ${values.length} matrices ${mean.toFixed(3)}`;
}

function publishCommand(): Command {
  return new Command('publish')
    .description('copy a delta file into a store and name it in the catalogue')
    .argument('<file>', 'delta file')
    .requiredOption('--store <url>', 'store: file:///PATH or a path')
    .option('--name <name>', 'expert name (the one in the file when left out)')
    .option('--channel <channel>', 'channel that shall point at this version', 'stable')
    .option('--base-name <name>', "the base's name in model lists", 'base')
    .option('--json', 'print the result as JSON', false)
    .action(async (file: string, flags: PublishFlags) => {
      const published = await publish(openStore(flags.store), file, flags);
      const { name, version } = published;
      console.log(
        flags.json
          ? JSON.stringify(published)
          : `${name}@${flags.channel} is now ${version.digest} (${formatBytes(version.bytes)})`,
      );
    });
}

function planeCount(text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1 || value > 8)
    throw new InvalidArgumentError('expected a whole number from 1 to 8');
  return value;
}

const program = new Command('signpost-packer')
  .description('From fine-tunes to published, verified 1-bit experts')
  .version(manifest.version)
  .addCommand(packCommand())
  .addCommand(mergeCommand())
  .addCommand(exportCommand())
  .addCommand(publishCommand())
  .addCommand(routerCommand());

try {
  await program.parseAsync();
} catch (error) {
  // What a user can mend needs no stack trace.
  console.error(error instanceof Problem ? `signpost-packer: ${error.message}` : error);
  process.exitCode = 1;
}
