/**
 * `signpost config get|put|versions|rollback`.
 */
import { type Command, InvalidArgumentError } from 'commander';
import type { ConfigChange, ConfigView, VersionView } from '../src/admin/config-routes.ts';
import { type AdminFlags, adminCommand, callAdmin } from './admin-client.ts';
import { changesText } from './changes-text.ts';
import { readText } from './read-text.ts';
import { table } from './table.ts';

interface ChangeFlags extends AdminFlags {
  readonly message?: string;
  readonly dryRun: boolean;
  readonly ifVersion?: number;
  readonly decisions?: number;
}

export function getConfigCommand(): Command {
  return adminCommand('get')
    .description('print the routing rules that were written last, or an older version')
    .argument('[version]', 'which one (default: the last)', version)
    .action(async (wanted: number | undefined, flags: AdminFlags) => {
      if (wanted !== undefined) {
        const path = `config/versions/${wanted}`;
        const old = await callAdmin<VersionView & { readonly text: string }>(flags, { method: 'GET', path });
        return console.log(flags.json ? JSON.stringify(old) : old.text.trimEnd());
      }
      const config = await current(flags);
      if (flags.json) return console.log(JSON.stringify(config));
      // The text alone on standard output, so that it can be written to a file, changed, and put back.
      console.log(config.text.trimEnd());
      const { version: number, in_force: inForce } = config;
      console.error(number === 0 ? 'the rules bundled with the Worker' : `version ${number}, ${whenAndWho(config)}`);
      const seconds = Math.round(inForce.age_ms / 1_000);
      console.error(
        `in force: ${inForce.version === null ? 'rules put into KV by hand' : inForce.version === 0 ? 'the bundled rules' : `version ${inForce.version}`}, read ${seconds} s ago${
          inForce.problem === null ? '' : `; what is newer is not, because ${inForce.problem}`
        }`,
      );
    });
}

export function putConfigCommand(): Command {
  return changing(adminCommand('put'))
    .description('put routing rules in force everywhere within a minute, and say what that changes')
    .argument('<file>', 'routing.yaml')
    .action(async (file: string, flags: ChangeFlags) => {
      const query = queryOf(flags, flags.message === undefined ? {} : { message: flags.message });
      const path = `config?${query}`;
      await change(flags, { method: 'PUT', path, body: await readText(file) });
    });
}

export function listVersionsCommand(): Command {
  return adminCommand('versions')
    .description('the versions of the routing rules, the latest first')
    .action(async (flags: AdminFlags) => {
      const path = 'config/versions';
      const { data } = await callAdmin<{ readonly data: readonly VersionView[] }>(flags, { method: 'GET', path });
      if (flags.json) return console.log(JSON.stringify(data));
      const rows = data.map(({ version: number, at, by, message, sha256 }) => [
        String(number),
        `${at.slice(0, 19)}Z`,
        by,
        sha256.slice(0, 12),
        message ?? '',
      ]);
      console.log(table([['version', 'written', 'by', 'sha256', 'message'], ...rows]));
    });
}

export function rollBackCommand(): Command {
  return changing(adminCommand('rollback'))
    .description('put an older version in force again, as a new one')
    .argument('<version>', 'as versions has it', version)
    .action(async (number: number, flags: ChangeFlags) => {
      const body = { version: number, message: flags.message };
      await change(flags, { method: 'POST', path: `config/rollback?${queryOf(flags, {})}`, body });
    });
}

function changing(command: Command): Command {
  return command
    .option('--message <text>', 'why, for the list of versions')
    .option('--dry-run', 'only say what would change', false)
    .option('--if-version <n>', 'the version they are to follow (default: the one that is there now)', version)
    .option('--decisions <n>', 'on how many of the latest requests to try them (default: 500)', version);
}

function queryOf({ dryRun, decisions }: ChangeFlags, more: Record<string, string>): URLSearchParams {
  return new URLSearchParams({
    ...more,
    ...(dryRun ? { dry_run: '1' } : {}),
    ...(decisions === undefined ? {} : { decisions: String(decisions) }),
  });
}

async function change(flags: ChangeFlags, request: Omit<Parameters<typeof callAdmin>[1], 'headers'>): Promise<void> {
  const follows = flags.dryRun ? undefined : (flags.ifVersion ?? (await current(flags)).version);
  const headers = follows === undefined ? {} : { 'if-match': `"${follows}"` };
  const changed = await callAdmin<ConfigChange>(flags, { ...request, headers });
  console.log(flags.json ? JSON.stringify(changed) : changesText(changed));
}

function current(flags: AdminFlags): Promise<ConfigView> {
  return callAdmin<ConfigView>(flags, { method: 'GET', path: 'config' });
}

function whenAndWho({ at, by, message }: Pick<ConfigView, 'at' | 'by' | 'message'>): string {
  return `written ${at?.slice(0, 19)}Z by ${by}${message === null ? '' : `: ${message}`}`;
}

function version(text: string): number {
  if (!/^\d{1,9}$/.test(text)) throw new InvalidArgumentError('expected a whole number');
  return Number(text);
}
