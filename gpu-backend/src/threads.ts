/**
 * Where worker threads begin. Sources run as they are, through tsx, which a thread registers for itself; in the bundle `threads.bundled.ts` stands in this file's place.
 */
import { type ResourceLimits, Worker } from 'node:worker_threads';

const MODULES = { engine: './runner/worker.ts', fetch: './experts/fetch-worker.ts' };

export type ThreadName = keyof typeof MODULES;

/** @param resourceLimits V8's own where left out */
export function startThread(name: ThreadName, workerData: unknown, resourceLimits: ResourceLimits = {}): Worker {
  const module = new URL(MODULES[name], import.meta.url).href;
  return new Worker(new URL('./thread-entry.mjs', import.meta.url), { argv: [module], workerData, resourceLimits });
}
