/**
 * A running edge, as the command line calls it. Keys come from the environment or a file: what stands in a command's arguments is seen by everybody on the machine.
 */
import { Problem } from '@signpost/contracts';
import { isLoopback } from '../src/settings/loopback.ts';
import { readText } from './read-text.ts';

export const EDGE_VARIABLE = 'SIGNPOST_EDGE';
const TIMEOUT_MS = 30_000;

export interface EdgeRequest {
  readonly method: 'GET' | 'POST' | 'PUT' | 'DELETE';
  /** With its query. */
  readonly path: string;
  /** Undefined for an edge that serves everybody. */
  readonly key: string | undefined;
  /** Text is sent as it is, anything else as JSON. */
  readonly body?: unknown;
  readonly headers?: Readonly<Record<string, string>>;
}

/**
 * What the edge answers, as JSON.
 *
 * @param edge its URL; where left out, the variable's.
 * @throws Problem where it can't be reached, would get the key unencrypted, or says no.
 */
export async function callEdge(
  edge: string | undefined,
  { method, path, key, body, headers = {} }: EdgeRequest,
): Promise<unknown> {
  const base = baseOf(edge ?? process.env[EDGE_VARIABLE]);
  let response: Response;
  try {
    response = await fetch(`${base}${path}`, {
      method,
      headers: { ...headers, ...(key === undefined ? {} : { authorization: `Bearer ${key}` }) },
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
    return JSON.parse(text);
  } catch {
    throw new Problem(`${base}${path} answered with no JSON: is a Signpost edge there?`);
  }
}

/**
 * The key in a file, or else in a variable; undefined where neither is given.
 *
 * @throws Problem where what is there is no key.
 */
export async function readKey(file: string | undefined, variable: string): Promise<string | undefined> {
  const key = (file === undefined ? process.env[variable] : await readText(file))?.trim();
  if (key === undefined || (key === '' && file === undefined)) return undefined;
  if (!/^[\x21-\x7e]+$/.test(key))
    throw new Problem(`${file ?? variable} holds no key: expected one word of printable ASCII`);
  return key;
}

function baseOf(edge: string | undefined): string {
  if (edge === undefined) throw new Problem(`which edge? Give --edge URL, or set ${EDGE_VARIABLE}`);
  if (!URL.canParse(edge)) throw new Problem(`--edge: "${edge}" is no URL`);
  const { protocol } = new URL(edge);
  if (protocol !== 'https:' && !(protocol === 'http:' && isLoopback(edge)))
    throw new Problem(`--edge: ${edge} would get the key unencrypted; use https`);
  return edge.replace(/\/+$/, '');
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
