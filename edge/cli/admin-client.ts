/**
 * The admin API of an edge, as the command line calls it.
 */
import { Problem } from '@signpost/contracts';
import { Command } from 'commander';
import { callEdge, EDGE_VARIABLE, type EdgeRequest, readKey } from './edge-client.ts';

export interface AdminFlags {
  readonly edge?: string;
  readonly adminKeyFile?: string;
  readonly json: boolean;
}

const KEY_VARIABLE = 'SIGNPOST_ADMIN_KEY';

/** A command with the options that all of them have. */
export function adminCommand(name: string): Command {
  return new Command(name)
    .option('--edge <url>', `where the edge is (or ${EDGE_VARIABLE})`)
    .option('--admin-key-file <file>', `holds an administrator's key (or ${KEY_VARIABLE} does)`)
    .option('--json', 'print what the edge says as JSON', false);
}

/** Paths are below `/admin/`. */
export type AdminRequest = Omit<EdgeRequest, 'key'>;

/** Asks the edge. @throws Problem where it can't be reached, or says no. */
export async function callAdmin<T>({ edge, adminKeyFile }: AdminFlags, request: AdminRequest): Promise<T> {
  const key = await readKey(adminKeyFile, KEY_VARIABLE);
  if (key === undefined) throw new Problem(`no administrator's key: set ${KEY_VARIABLE}, or give --admin-key-file`);
  return (await callEdge(edge, { ...request, path: `/admin/${request.path}`, key })) as T;
}
