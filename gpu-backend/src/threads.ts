/**
 * Where worker threads begin. Sources run as they are, through tsx, which a thread registers for itself; in the bundle `threads.bundled.ts` stands in this file's place.
 */
import { Worker } from 'node:worker_threads';

const MODULES = { engine: './runner/worker.ts', fetch: './experts/fetch-worker.ts' };

export type ThreadName = keyof typeof MODULES;

export function startThread(name: ThreadName, workerData: unknown): Worker {
  const module = new URL(MODULES[name], import.meta.url).href;
  return new Worker(new URL('./thread-entry.mjs', import.meta.url), { argv: [module], workerData });
}
