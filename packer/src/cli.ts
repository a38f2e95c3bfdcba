/**
 * `signpost-packer`: the command line.
 */
import { Problem } from '@signpost/contracts';
import { Command } from 'commander';
import manifest from '../package.json' with { type: 'json' };
import { readCommands } from './catalogue/read-commands.ts';
import { writeCommands } from './catalogue/write-commands.ts';
import { evalCommand } from './eval/command.ts';
import { exportCommand, mergeCommand } from './merge/command.ts';
import { packCommand } from './pack/command.ts';
import { routerCommand } from './router/command.ts';

const program = new Command('signpost-packer')
  .description('From fine-tunes to published, verified 1-bit experts')
  .version(manifest.version)
  .addCommand(packCommand())
  .addCommand(evalCommand())
  .addCommand(mergeCommand())
  .addCommand(exportCommand())
  .addCommand(routerCommand());
for (const command of [...writeCommands(), ...readCommands()]) program.addCommand(command);

try {
  await program.parseAsync();
} catch (error) {
  // What a user can mend needs no stack trace.
  console.error(error instanceof Problem ? `signpost-packer: ${error.message}` : error);
  process.exitCode = 1;
}
