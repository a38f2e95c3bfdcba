/**
 * The admin API of an edge, as the command line calls it. The administrator's key comes from the environment or a file: what stands in a command's arguments is
 * seen by everybody on the machine.
 */
import { Problem } from '@signpost/contracts';
import { Command } from 'commander';
import { readText } from './read-text.ts';

export interface AdminFlags {
  readonly edge?: string;
  readonly adminKeyFile?: string;
  readonly json: boolean;
}

const KEY_VARIABLE = 'SIGNPOST_ADMIN_KEY';
const EDGE_VARIABLE = 'SIGNPOST_EDGE';
const TIMEOUT_MS = 30_000;

/** A command with the options that all of them have. */
export function adminCommand(name: string): Command {
  return new Command(name)
    .option('--edge <url>', `where the edge is (or ${EDGE_VARIABLE})`)
    .option('--admin-key-file <file>', `holds an administrator's key (or ${KEY_VARIABLE} does)`)
    .option('--json', 'print what the edge says as JSON', false);
}

export interface AdminRequest {
  readonly method: 'GET' | 'POST' | 'PUT' | 'DELETE';
  /** Below `/admin/`. */
  readonly path: string;
  /** Text is sent as it is, anything else as JSON. */
  readonly body?: unknown;
  readonly headers?: Readonly<Record<string, string>>;
}

/** Asks the edge. @throws Problem where it can't be reached, or says no. */
export async function callAdmin<T>(
  { edge = process.env[EDGE_VARIABLE], adminKeyFile }: AdminFlags,
  { method, path, body, headers = {} }: AdminRequest,
): Promise<T> {
  const base = baseOf(edge);
  const authorization = `Bearer ${await readKey(adminKeyFile)}`;
  let response: Response;
  try {
    response = await fetch(`${base}/admin/${path}`, {
      method,
      headers: { ...headers, authorization },
      ...(body === undefined ? {} : { body: typeof body === 'string' ? body : JSON.stringify(body) }),
      redirect: 'error',
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
  } catch (cause) {
    const why = cause instanceof Error ? (cause.cause instanceof Error ? cause.cause.message : cause.message) : cause;
    throw new Problem(`${base} can't be reached: ${why}`, { cause });
  }
  const text = await response.text();
  if (!response.ok) throw new Problem(`${base} says ${response.status}: ${messageIn(text)}`);
  try {
    return JSON.parse(text) as T;
  } catch {
    throw new Problem(`${base}/admin/${path} answered with no JSON: is a Signpost edge there?`);
  }
}

function baseOf(edge: string | undefined): string {
  if (edge === undefined) throw new Problem(`which edge? Give --edge URL, or set ${EDGE_VARIABLE}`);
  if (!URL.canParse(edge)) throw new Problem(`--edge: "${edge}" is no URL`);
  const { protocol, hostname } = new URL(edge);
  const isHere = ['127.0.0.1', 'localhost', '[::1]'].includes(hostname);
  if (protocol !== 'https:' && !(protocol === 'http:' && isHere))
    throw new Problem(`--edge: ${edge} would get the administrator's key unencrypted; use https`);
  return edge.replace(/\/+$/, '');
}

async function readKey(file: string | undefined): Promise<string> {
  const key = (file === undefined ? process.env[KEY_VARIABLE] : await readText(file))?.trim();
  if (key === undefined || key === '')
    throw new Problem(`no administrator's key: set ${KEY_VARIABLE}, or give --admin-key-file`);
  if (!/^[\x21-\x7e]+$/.test(key))
    throw new Problem(`${file ?? KEY_VARIABLE} holds no key: expected one word of printable ASCII`);
  return key;
}

/** What an error in OpenAI's envelope says, else the beginning of what was sent. */
function messageIn(text: string): string {
  try {
    const { error } = JSON.parse(text) as { readonly error?: { readonly message?: string } };
    if (typeof error?.message === 'string') return error.message;
  } catch {
    // Some proxy's page.
  }
  return text.slice(0, 200).trim() || 'nothing';
}
