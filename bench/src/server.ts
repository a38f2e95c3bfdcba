/**
 * A region in a process of its own, as its users start it, and requests to it.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

const MAIN = join(import.meta.dirname, '../../gpu-backend/src/main.ts');

/** For a region beside its store, its link and its clients, which elsewhere are other machines: a core is theirs. */
export const ALL_CORES_BUT_ONE = ['--threads', String(Math.max(1, availableParallelism() - 1))];

export interface Region {
  readonly url: string;
  readonly close: () => Promise<void>;
}

/** Starts `signpost-backend` on a free port, with the store's settings in this process's environment; resolves when it serves. */
export async function startRegion(base: string, store: string, flags: readonly string[]): Promise<Region> {
  const all = ['--base', base, '--store', store, '--region', 'bench', '--port', '0', ...flags];
  const server = spawn(process.execPath, ['--import', 'tsx', MAIN, ...all], { stdio: ['ignore', 'pipe', 'inherit'] });
  for await (const line of createInterface(server.stdout)) {
    const { msg, url } = JSON.parse(line) as { msg: string; url: string };
    if (msg === 'ready') {
      server.stdout.resume();
      return { url, close: () => stop(server) };
    }
  }
  throw new Error('the region ended before it was ready');
}

async function stop(server: ChildProcess): Promise<void> {
  const exited = once(server, 'exit');
  server.kill();
  await exited;
}

export interface Answer {
  readonly firstTokenMs: number;
  readonly totalMs: number;
}

/** Streams a completion of `tokens` tokens. @throws Error when it is refused, fails, or has another length. */
export async function complete(
  { url }: Region,
  model: string,
  prompt: readonly number[],
  tokens: number,
): Promise<Answer> {
  const start = performance.now();
  const response = await fetch(`${url}/v1/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({
      model,
      prompt,
      max_tokens: tokens,
      temperature: 0,
      ignore_eos: true,
      return_token_ids: true,
      stream: true,
    }),
  });
  if (response.status !== 200 || response.body === null) throw new Error(await response.text());
  let firstTokenMs = Number.NaN;
  let text = '';
  const decoder = new TextDecoder();
  for await (const bytes of response.body) {
    text += decoder.decode(bytes, { stream: true });
    if (Number.isNaN(firstTokenMs) && text.includes('"token_ids":[')) firstTokenMs = performance.now() - start;
  }
  const totalMs = performance.now() - start;
  const found = text.match(/"token_ids":\[\d+\]/g)?.length ?? 0;
  if (found !== tokens || !text.endsWith('data: [DONE]\n\n'))
    throw new Error(`${model} answered ${found} of ${tokens} tokens: ${text.slice(-300)}`);
  return { firstTokenMs, totalMs };
}

/** The sum of a metric's values. */
export async function metric({ url }: Region, name: string): Promise<number> {
  const text = await (await fetch(`${url}/metrics`)).text();
  const values = text.split('\n').filter((line) => line.startsWith(`${name} `) || line.startsWith(`${name}{`));
  if (values.length === 0) throw new Error(`the region has no metric ${name}`);
  return values.reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(' '))), 0);
}
