/**
 * `signpost`: the command line of the edge.
 */
import { Problem } from '@signpost/contracts';
import { Command } from 'commander';
import manifest from '../package.json' with { type: 'json' };
import { getConfigCommand, listVersionsCommand, putConfigCommand, rollBackCommand } from './config-command.ts';
import { exportCommand } from './feedback-command.ts';
import { createKeyCommand, listKeysCommand, revokeKeyCommand, showKeyCommand } from './keys-command.ts';
import { lintCommand, testCommand } from './routes-command.ts';
import { shadowReportCommand } from './shadow-command.ts';

const program = new Command('signpost').description('Work on what the edge does').version(manifest.version);
program.command('routes').description('routing rules').addCommand(lintCommand()).addCommand(testCommand());
program.command('feedback').description('what apps say of past decisions').addCommand(exportCommand());
program
  .command('keys')
  .description('API keys of a running edge')
  .addCommand(createKeyCommand())
  .addCommand(listKeysCommand())
  .addCommand(showKeyCommand())
  .addCommand(revokeKeyCommand());
program
  .command('config')
  .description('routing rules of a running edge')
  .addCommand(getConfigCommand())
  .addCommand(putConfigCommand())
  .addCommand(listVersionsCommand())
  .addCommand(rollBackCommand());
program.command('shadow').description('answers compared with another model’s').addCommand(shadowReportCommand());

try {
  await program.parseAsync();
} catch (error) {
  // What a user can mend needs no stack trace.
  console.error(error instanceof Problem ? `signpost: ${error.message}` : error);
  process.exitCode = 1;
}
