/**
 * `signpost-packer`: the command line.
 */
import { Problem } from '@signpost/contracts';
import { Command } from 'commander';
import manifest from '../package.json' with { type: 'json' };

const pack = async () => [(await import('./pack/command.ts')).packCommand()];
const evaluate = async () => [(await import('./eval/command.ts')).evalCommand()];
const merge = async () => {
  const { exportCommand, mergeCommand } = await import('./merge/command.ts');
  return [mergeCommand(), exportCommand()];
};
const router = async () => [(await import('./router/command.ts')).routerCommand()];
const catalogue = async () => {
  const { writeCommands } = await import('./catalogue/write-commands.ts');
  const { readCommands } = await import('./catalogue/read-commands.ts');
  return [...writeCommands(), ...readCommands()];
};
/** Commands are loaded when they are asked for: together they take longer to load than a small delta to pack. The rest need all, for help. */
const ALONE: Readonly<Record<string, () => Promise<Command[]>>> = {
  pack,
  eval: evaluate,
  merge,
  export: merge,
  router,
};

const [, , wanted = ''] = process.argv;
const loaders = Object.hasOwn(ALONE, wanted) ? [ALONE[wanted]] : [pack, evaluate, merge, router, catalogue];
const program = new Command('signpost-packer')
  .description('From fine-tunes to published, verified 1-bit experts')
  .version(manifest.version);
for (const load of loaders) for (const command of (await load?.()) ?? []) program.addCommand(command);

try {
  await program.parseAsync();
} catch (error) {
  // What a user can mend needs no stack trace.
  console.error(error instanceof Problem ? `signpost-packer: ${error.message}` : error);
  // Without waiting for what still runs beside, such as the hashing of a checkpoint.
  process.exit(1);
}
