/**
 * A region's process, as an operator's shell and supervisor start it.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

const MAIN = join(import.meta.dirname, '../main.ts');

export interface ContainerProcess {
  readonly child: ChildProcess;
  /** Once it has ended. */
  readonly exit: Promise<{
    readonly code: number | null;
    readonly signal: NodeJS.Signals | null;
    readonly stderr: string;
  }>;
  /** Its log. */
  readonly lines: AsyncIterable<string>;
}

/** @param env beside this process's own, of which it gets no secret. */
export function startProcess(flags: readonly string[], env: Readonly<Record<string, string>> = {}): ContainerProcess {
  const { SIGNPOST_REGION_SECRET: _, ...rest } = process.env;
  const child = spawn(process.execPath, ['--import', 'tsx', MAIN, ...flags], {
    env: { ...rest, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let stderr = '';
  child.stderr.on('data', (chunk) => {
    stderr += chunk;
  });
  const exit = once(child, 'exit').then(([code, signal]) => ({ code, signal, stderr }));
  return { child, exit, lines: createInterface(child.stdout) };
}

/** The address in the log's `ready` line. @throws Error where there is none */
export async function readyAt(lines: AsyncIterable<string>): Promise<string> {
  for await (const line of lines) {
    const { msg, url } = JSON.parse(line) as { msg: string; url: string };
    if (msg === 'ready') return url;
  }
  throw new Error('ended before it was ready');
}
