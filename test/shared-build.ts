/**
 * A folder for the run in which test files that need the Worker's bundle share one: each file has a process of its own, and would build it again.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export async function setup(): Promise<() => Promise<void>> {
  const folder = await mkdtemp(join(tmpdir(), 'signpost-worker-'));
  process.env.SIGNPOST_WORKER_BUILD = folder;
  return () => rm(folder, { recursive: true, force: true });
}
